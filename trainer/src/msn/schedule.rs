//! Learning rate, weight decay, moving-average momentum and sharpening as functions of the step.
//!
//! With `stretch` 1.25 these are the published schedules, which are computed for a quarter more steps than are taken and so
//! never finish; with 1.0 they run out.

use super::step::Rates;
use std::f64::consts::PI;

/// End points of the schedules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleOptions {
    /// Steps in all.
    pub steps: usize,
    /// Of these, steps of linear warm-up.
    pub warmup_steps: usize,
    /// Schedules are computed for this many times the steps.
    pub stretch: f64,
    /// Learning rate at the start of the warm-up, at its end, and at the end of the cosine.
    pub learning_rate: (f64, f64, f64),
    /// Weight decay at the start and at the end of its cosine.
    pub weight_decay: (f64, f64),
    /// Momentum of the target's moving average, linear from start to end.
    pub momentum: (f64, f64),
    /// Sharpening T of the targets, linear from start to end.
    pub sharpen: (f64, f64),
    /// Temperature of the weights of an ensemble's heads, linear from start to end.
    pub ensemble_temperature: (f64, f64),
    /// Steps after which sharpening and ensemble temperature are at their end; 0 takes all (stretched) steps.
    pub temperature_steps: usize,
}

/// The schedules themselves.
#[derive(Clone, Copy, Debug)]
pub struct Schedules {
    options: ScheduleOptions,
    /// Steps the schedules are computed for; the cosines take the whole number of them.
    stretched: f64,
}

impl Schedules {
    /// Prepares the schedules.
    pub fn new(options: ScheduleOptions) -> Self {
        Self { options, stretched: (options.steps as f64 * options.stretch).max(1.0) }
    }

    /// The values of step `step`, counted from 1.
    pub fn at(&self, step: usize) -> Rates {
        let taken = step.saturating_sub(1) as f64;
        let along = |(start, end): (f64, f64), share: f64| start + (end - start) * share;
        let linear = |ends| along(ends, taken / self.stretched);
        let warming = match self.options.temperature_steps {
            0 => taken / self.stretched,
            steps => (taken / steps as f64).min(1.0),
        };
        Rates {
            learning_rate: self.learning_rate(step),
            weight_decay: self.weight_decay(step),
            momentum: linear(self.options.momentum).min(1.0),
            sharpen: along(self.options.sharpen, warming),
            ensemble_temperature: along(self.options.ensemble_temperature, warming),
        }
    }

    fn learning_rate(&self, step: usize) -> f64 {
        let (start, peak, end) = self.options.learning_rate;
        let (step, warmup) = (step as f64, self.options.warmup_steps as f64);
        if step < warmup {
            return start + step / warmup.max(1.0) * (peak - start);
        }
        let progress = (step - warmup) / (self.stretched.floor() - warmup).max(1.0);
        end.max(cosine(peak, end, progress))
    }

    fn weight_decay(&self, step: usize) -> f64 {
        let (start, end) = self.options.weight_decay;
        let decay = cosine(start, end, step as f64 / self.stretched.floor());
        if start <= end { decay.min(end) } else { decay.max(end) }
    }
}

/// Half a cosine from `start` to `end`, where it stays.
fn cosine(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * 0.5 * (1.0 + (PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four steps per epoch, five epochs, one of warm-up; values computed in float64 from the published formulas.
    #[test]
    fn the_published_schedules() {
        let schedules = Schedules::new(ScheduleOptions {
            steps: 20,
            warmup_steps: 4,
            stretch: 1.25,
            learning_rate: (2e-4, 1e-3, 1e-6),
            weight_decay: (0.04, 0.4),
            momentum: (0.996, 1.0),
            sharpen: (0.25, 0.25),
            ensemble_temperature: (0.5, 0.01),
            temperature_steps: 0,
        });
        let expected = [
            (4.0e-4, 0.041_419_353_763_39, 0.99600),
            (6.0e-4, 0.045_655_030_996_85, 0.99616),
            (8.0e-4, 0.052_640_232_540_11, 0.99632),
            (1.0e-3, 0.062_264_797_592_10, 0.99648),
            (9.944_209_977e-4, 0.074_376_941_012_51, 0.99664),
            (9.778_086_165e-4, 0.088_785_647_064_15, 0.99680),
            (9.505_339_495e-4, 0.105_263_681_845_24, 0.99696),
            (9.132_062_678e-4, 0.123_551_176_903_78, 0.99712),
            (8.666_594_100e-4, 0.143_359_727_518_29, 0.99728),
            (8.119_331_560e-4, 0.164_376_941_012_51, 0.99744),
            (7.5025e-4, 0.186_271_363_374_57, 0.99760),
            (6.829_878_417e-4, 0.208_697_706_484_72, 0.99776),
            (6.116_492_065e-4, 0.231_302_293_515_28, 0.99792),
            (5.378_276_817e-4, 0.253_728_636_625_43, 0.99808),
            (4.631_723_183e-4, 0.275_623_058_987_49, 0.99824),
            (3.893_507_935e-4, 0.296_640_272_481_71, 0.99840),
            (3.180_121_583e-4, 0.316_448_823_096_22, 0.99856),
            (2.5075e-4, 0.334_736_318_154_76, 0.99872),
            (1.890_668_440e-4, 0.351_214_352_935_85, 0.99888),
            (1.343_405_900e-4, 0.365_623_058_987_49, 0.99904),
        ];
        for (index, (learning_rate, weight_decay, momentum)) in expected.into_iter().enumerate() {
            let rates = schedules.at(index + 1);
            assert!((rates.learning_rate - learning_rate).abs() < 1e-12, "step {}: {rates:?}", index + 1);
            assert!((rates.weight_decay - weight_decay).abs() < 1e-12, "step {}: {rates:?}", index + 1);
            assert!((rates.momentum - momentum).abs() < 1e-12, "step {}: {rates:?}", index + 1);
        }
    }

    /// The published ViT-S/16 run: 800 epochs of 1251 steps.
    #[test]
    fn the_published_run_ends_early() {
        let schedules = Schedules::new(ScheduleOptions {
            steps: 1_000_800,
            warmup_steps: 18_765,
            stretch: 1.25,
            learning_rate: (2e-4, 1e-3, 1e-6),
            weight_decay: (0.04, 0.4),
            momentum: (0.996, 1.0),
            sharpen: (0.5, 0.25),
            ensemble_temperature: (0.5, 0.01),
            temperature_steps: 0,
        });
        let last = schedules.at(1_000_800);
        assert!((last.learning_rate - 9.922_37e-5).abs() < 1e-9, "{last:?}");
        assert!((last.weight_decay - 0.365_623).abs() < 1e-6, "{last:?}");
        assert!((last.momentum - 0.9992).abs() < 1e-8, "{last:?}");
        assert!((last.sharpen - 0.3).abs() < 1e-6, "{last:?}");
        assert!((schedules.at(1).learning_rate - 2.000_426e-4).abs() < 1e-10);
        assert!((schedules.at(250_200).learning_rate - 9.155_423e-4).abs() < 1e-10);
        assert!((schedules.at(500_400).learning_rate - 6.684_249e-4).abs() < 1e-10);
    }

    #[test]
    fn without_stretch_they_run_out() {
        let options = ScheduleOptions {
            steps: 1000,
            warmup_steps: 10,
            stretch: 1.0,
            learning_rate: (1e-4, 1e-3, 1e-6),
            weight_decay: (0.04, 0.4),
            momentum: (0.99, 1.0),
            sharpen: (0.5, 0.25),
            ensemble_temperature: (0.5, 0.01),
            temperature_steps: 0,
        };
        let last = Schedules::new(options).at(1000);
        assert!((last.learning_rate - 1e-6).abs() < 1e-12);
        assert!((last.weight_decay - 0.4).abs() < 1e-12);
        assert!(last.momentum < 1.0 && last.momentum > 0.9999);
        assert!((last.sharpen - 0.25).abs() < 1e-3);
    }
    #[test]
    fn temperatures_may_settle_early() {
        let options = ScheduleOptions {
            steps: 1000,
            warmup_steps: 10,
            stretch: 1.0,
            learning_rate: (1e-4, 1e-3, 1e-6),
            weight_decay: (0.04, 0.4),
            momentum: (0.99, 1.0),
            sharpen: (0.5, 0.25),
            ensemble_temperature: (0.5, 0.01),
            temperature_steps: 100,
        };
        let schedules = Schedules::new(options);
        let at = |step| (schedules.at(step).sharpen, schedules.at(step).ensemble_temperature);
        assert_eq!(at(1), (0.5, 0.5));
        assert_eq!(at(51), (0.375, 0.255));
        assert_eq!(at(101), at(1000));
        assert!((at(101).0 - 0.25).abs() < 1e-12 && (at(101).1 - 0.01).abs() < 1e-12);
    }
}
