//! Several ranks with a batch each compute what one computes with all of it.

use super::*;
use crate::msn::Collective;
use std::sync::{Arc, Barrier, Mutex};

/// Ranks that are threads of this process.
struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    slots: Mutex<Vec<Option<Tensor>>>,
    barrier: Barrier,
}

impl Threads {
    fn group(count: usize) -> Vec<Ranks> {
        let shared = Arc::new(Shared { slots: Mutex::new(vec![None; count]), barrier: Barrier::new(count) });
        (0..count).map(|rank| Ranks::new(Arc::new(Self { rank, shared: Arc::clone(&shared) }))).collect()
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.shared.slots.lock().unwrap().len()
    }

    fn sum(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        self.shared.slots.lock().unwrap()[self.rank] = Some(tensor.clone());
        self.shared.barrier.wait();
        let sum = {
            let slots = self.shared.slots.lock().unwrap();
            let all: Vec<&Tensor> = slots.iter().map(|slot| slot.as_ref().unwrap()).collect();
            Tensor::stack(&all, 0)?.sum(0)?
        };
        // Nobody may put in its next tensor before all have read this one.
        self.shared.barrier.wait();
        Ok(sum)
    }
}

/// Eight images, in view-major order.
fn large_views(step: usize, dtype: DType) -> Views {
    let pace = |base: f64| base + 0.01 * step as f64;
    views(
        pixels(8, 32, pace(0.37), dtype),
        Some(pixels(8, 32, pace(0.53), dtype)),
        Some(pixels(16, 16, pace(0.71), dtype)),
    )
}

/// The images of one rank out of `count`.
fn part(whole: &Views, rank: usize, count: usize) -> Views {
    let cut = |pixels: &Tensor| {
        let of_view = |view: Tensor| view.chunk(count, 0).unwrap()[rank].clone();
        let views: Vec<Tensor> =
            pixels.chunk(pixels.dim(0).unwrap() / 8, 0).unwrap().into_iter().map(of_view).collect();
        Tensor::cat(&views, 0).unwrap()
    };
    views(cut(&whole.target), Some(cut(&whole.anchors[0].pixels)), Some(cut(&whole.anchors[1].pixels)))
}

/// Parameters and buffers after ten steps, and the last report.
fn train(config: &MsnConfig, ranks: &Ranks, dtype: DType) -> (Vec<(String, Vec<f64>)>, StepReport) {
    let mut msn = Msn::new(config.clone(), 7, dtype, &DEVICE, ranks).unwrap();
    let mut last = StepReport::default();
    for step in 0..10 {
        let whole = large_views(step, dtype);
        let views = part(&whole, ranks.rank(), ranks.count());
        last = msn.step(&[views], &rates()).unwrap();
    }
    let state = msn.state().into_iter().filter(|(name, _)| !name.starts_with("opt."));
    (state.map(|(name, value)| (name, numbers(&value))).collect(), last)
}

fn agree(config: &MsnConfig, dtype: DType, tolerance: f64) {
    let (expected, report) = train(config, &Ranks::alone(), dtype);
    for count in [2, 4] {
        let handles = Threads::group(count).into_iter().map(|ranks| {
            let config = config.clone();
            std::thread::spawn(move || train(&config, &ranks, dtype))
        });
        let handles: Vec<_> = handles.collect();
        for handle in handles {
            let (state, of_rank) = handle.join().unwrap();
            assert_near(of_rank.loss, report.loss, tolerance);
            assert_near(
                of_rank.gradient_norm,
                report.gradient_norm,
                tolerance * report.gradient_norm.max(1.0),
            );
            for ((name, value), (_, expected)) in state.iter().zip(&expected) {
                for (value, expected) in value.iter().zip(expected) {
                    let difference = (value - expected).abs();
                    assert!(
                        difference <= tolerance,
                        "{name} of {count} ranks: {value} instead of {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn ten_steps_of_several_ranks_are_those_of_one() {
    agree(&tiny(), DType::F64, 1e-9);
}

#[test]
fn so_are_they_with_sinkhorn_an_ensemble_and_a_heavy_mean_entropy_term() {
    let loss = LossOptions { entropy_weight: 0.2, ..loss_options(4.0, true) };
    agree(&MsnConfig { heads: 2, loss, ..tiny() }, DType::F64, 1e-9);
}

/// In f32, what trains, the fused kernels take over. One step only: rounding differs, and Adam's first steps follow the sign
/// of gradients that are nearly nothing.
#[test]
fn single_precision_agrees_on_loss_and_gradient() {
    let one_step = |ranks: &Ranks| {
        let mut msn = Msn::new(tiny(), 7, DType::F32, &DEVICE, ranks).unwrap();
        let views = part(&large_views(0, DType::F32), ranks.rank(), ranks.count());
        msn.step(&[views], &rates()).unwrap()
    };
    let expected = one_step(&Ranks::alone());
    let handles: Vec<_> =
        Threads::group(2).into_iter().map(|ranks| std::thread::spawn(move || one_step(&ranks))).collect();
    for handle in handles {
        let report = handle.join().unwrap();
        assert_near(report.loss, expected.loss, 1e-5);
        assert_near(report.gradient_norm / expected.gradient_norm, 1.0, 1e-4);
    }
}

#[test]
fn a_mean_over_ranks_has_the_mean_of_the_gradients() {
    let handles = Threads::group(2).into_iter().map(|ranks| {
        std::thread::spawn(move || {
            let value = if ranks.rank() == 0 { [1.0, 2.0] } else { [3.0, -2.0] };
            let value = candle_core::Var::new(&value, &DEVICE).unwrap();
            let mean = ranks.mean(&value).unwrap();
            assert_eq!(numbers(&mean), [2.0, 0.0]);
            // Rank 0 minimises m², rank 1 minimises 3·m: together (2·m + 3) / 2 for each of the two values.
            let loss = if ranks.rank() == 0 { mean.sqr().unwrap() } else { (mean * 3.0).unwrap() };
            let gradients = loss.sum_all().unwrap().backward().unwrap();
            assert_eq!(numbers(gradients.get(&value).unwrap()), [3.5, 1.5]);
            assert!(ranks.any(ranks.rank() == 1, &DEVICE).unwrap());
            assert!(!ranks.any(false, &DEVICE).unwrap());
        })
    });
    handles.collect::<Vec<_>>().into_iter().for_each(|handle| handle.join().unwrap());
}
