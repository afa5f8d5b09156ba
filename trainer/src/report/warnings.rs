//! What the numbers of a run say is wrong, in words, with what to try.

use super::Story;
use super::text::percent;
use crate::config::Config;
use crate::run::{LogRecord, MonitorRecord};

/// Lines of the log that tell how things are now.
const RECENT: usize = 20;
/// Fewer lines say nothing yet.
const ENOUGH: usize = 3;
/// Share of time spent waiting for data that is worth a word.
const DATA_WAIT: f64 = 0.05;

/// Everything that shows trouble, the worst first.
pub(super) fn warnings(story: &Story) -> Vec<String> {
    let config = &story.progress.config;
    let mut found = Vec::new();
    if story.log.len() >= ENOUGH {
        let recent = &story.log[story.log.len() - story.log.len().min(RECENT)..];
        found.extend(collapse(config, recent));
        found.extend(clipping(config, &story.log));
        found.extend(waiting(recent));
    }
    found.extend(accuracy(&story.monitor));
    found.extend(dead_prototypes(story));
    found
}

fn mean(records: &[LogRecord], value: impl Fn(&LogRecord) -> f64) -> f64 {
    records.iter().map(value).sum::<f64>() / records.len() as f64
}

/// The two ways to collapse (arXiv 2204.07141, §3 and appendix): every target uniform, or one prototype for all images.
fn collapse(config: &Config, recent: &[LogRecord]) -> Option<String> {
    let prototypes = config.loss.prototypes as f64;
    let most = config.distinct_prototypes() as f64;
    let agreement = mean(recent, |record| record.msn);
    let confidence = mean(recent, |record| record.max_target);
    let spread = mean(recent, |record| record.me_max);
    let distinct = mean(recent, |record| record.distinct_prototypes as f64);
    if spread > 0.7 * prototypes.ln() || distinct < 1.5 * config.head.count as f64 {
        return Some(format!(
            "Collapsed onto one prototype: the mean-entropy term is {spread:.2} of at most {:.2}, and a batch's targets \
             use {distinct:.1} prototypes. The network gives every image the same answer. Start again with a larger \
             loss.memax_weight, or with loss.sinkhorn = true where a batch has more images than there are prototypes.",
            prototypes.ln()
        ));
    }
    if confidence < 2.0 / prototypes && agreement > 0.9 * prototypes.ln() {
        return Some(format!(
            "Collapsed to uniform targets: their largest probability is {confidence:.3} on average, hardly above 1/K = \
             {:.3}, and the agreement term is {agreement:.2}, close to log K = {:.2}. Start again with sharper targets (a \
             smaller loss.start_sharpen and loss.final_sharpen), a lower learning rate or, under Sinkhorn, fewer \
             prototypes.",
            1.0 / prototypes,
            prototypes.ln()
        ));
    }
    (distinct < 0.25 * most).then(|| {
        format!(
            "Few prototypes are in use: {distinct:.0} of {most:.0} possible in a batch. Images of many kinds share one; a \
             larger loss.memax_weight or loss.sinkhorn = true spreads them."
        )
    })
}

fn clipping(config: &Config, log: &[LogRecord]) -> Option<String> {
    let limit = config.optimisation.clip_gradient;
    let clipped = mean(log, |record| f64::from(u8::from(record.gradient_norm > limit)));
    (limit > 0.0 && clipped > 0.5).then(|| {
        format!(
            "Gradients are clipped most of the time: in {} of the log's lines the norm is above \
             optimisation.clip_gradient = {limit}. The learning rate then sets the length of every step by itself; lower it, \
             lengthen the warm-up, or raise the limit.",
            percent(clipped)
        )
    })
}

fn waiting(recent: &[LogRecord]) -> Option<String> {
    let wait = mean(recent, |record| record.data_wait);
    (wait > DATA_WAIT).then(|| {
        format!(
            "Training waits for data {} of the time. More data.threads or processors, data.shrink_short_side near the view \
             size, or more data.memory_mib (decoded images then stay in memory) make it faster.",
            percent(wait)
        )
    })
}

fn accuracy(monitor: &[MonitorRecord]) -> Vec<String> {
    let (Some(first), Some(last)) = (monitor.first(), monitor.last()) else { return Vec::new() };
    let mut found = Vec::new();
    for now in &last.accuracies {
        let same = |record: &MonitorRecord| {
            let accuracy =
                record.accuracies.iter().find(|other| other.head == now.head && other.shots == now.shots);
            accuracy.map(|accuracy| (record.epoch, accuracy.accuracy, accuracy.interval.unwrap_or_default()))
        };
        // One kind speaks for all: the paper's own measure, with the most labels.
        if now.head != "logistic" || last.accuracies.iter().any(|other| other.shots > now.shots) {
            continue;
        }
        let room = now.interval.unwrap_or_default();
        let best = monitor.iter().filter_map(same).max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((epoch, best, interval)) = best.filter(|best| now.accuracy + room < best.1 - best.2) {
            found.push(format!(
                "Few-shot accuracy is falling: {} ± {} at the last evaluation, {} ± {} at epoch {epoch:.1}. Training longer \
                 makes this encoder worse at what it is for.",
                percent(now.accuracy),
                percent(room),
                percent(best),
                percent(interval)
            ));
        }
        if let Some((_, untrained, _)) = same(first).filter(|_| first.step == 0 && last.step > 0)
            && now.accuracy + room < untrained
        {
            found.push(format!(
                "The encoder is worse than before its first step: {} now, {} untrained.",
                percent(now.accuracy),
                percent(untrained)
            ));
        }
    }
    found
}

fn dead_prototypes(story: &Story) -> Option<String> {
    let pictures = story.pictures.as_ref().ok()?;
    let heads = story.progress.config.head.count;
    let (images, prototypes) = (pictures.images, pictures.wins.len());
    let dead = pictures.wins.iter().filter(|&&wins| wins == 0).count();
    // With so many images per prototype, an even use would leave next to none without any.
    (images * heads >= 3 * prototypes && 2 * dead > prototypes).then(|| {
        format!(
            "{dead} of {prototypes} prototypes are nearest to none of {images} images. Fewer loss.prototypes, or a larger \
             loss.memax_weight."
        )
    })
}
