//! A look at a data set before a long run.

mod duplicates;
mod perceptual;
mod report;
#[cfg(test)]
mod tests;

pub use report::{Classes, LabelConflict, LabelledImage, Memory, Report, Sizes, SmallerThanView, Spread};

use super::find::{Item, find};
use super::location::Location;
use super::set::shrunk_size;
use super::{DataOptions, Skipped};
use crate::Error;
use crate::config::Config;
use dozen_models::image::{Format, Limits, decode};
use perceptual::Perceptual;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A readable picture.
struct Scanned {
    name: String,
    label: String,
    format: &'static str,
    width: u32,
    height: u32,
    pixels: blake3::Hash,
    perceptual: Option<Perceptual>,
}

/// Reads every picture under `paths` once. `options` bound the memory for compressed archives, and say with `config`
/// what a run would do. `progress` is called with every picture, from several threads.
///
/// Unreadable pictures and sets too small for a batch go into the report; it fails where a run could not even list the
/// pictures.
pub fn check(
    paths: &[PathBuf],
    options: &DataOptions,
    config: Option<&Config>,
    progress: impl Fn() + Sync,
) -> Result<Report, Error> {
    let (found, sources) = find(paths, options.memory_mib << 20)?;
    let images = found.len();
    let scanned: Vec<Result<Scanned, Skipped>> = found
        .into_par_iter()
        .map(|(item, location)| {
            progress();
            scan(item, &location)
        })
        .collect();
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for result in scanned {
        match result {
            Ok(picture) => readable.push(picture),
            Err(skipped) => unreadable.push(skipped),
        }
    }
    let exact = duplicates::equal(readable.iter().map(|picture| picture.pixels));
    let near = near_duplicates(&readable, &exact);
    let mut conflicts = label_conflicts(&readable, &exact, true);
    conflicts.extend(label_conflicts(&readable, &near, false));
    let mut report = Report {
        sources,
        images,
        readable: readable.len(),
        unreadable,
        formats: count(readable.iter().map(|picture| picture.format)),
        sizes: sizes(&readable, config),
        classes: classes(&readable),
        exact_duplicates: names(&readable, &exact),
        near_duplicates: names(&readable, &near),
        label_conflicts: conflicts,
        memory: memory(&readable, options),
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    report.errors = errors(&report, config);
    report.warnings = warnings(&report);
    Ok(report)
}

fn scan(item: Item, location: &Location) -> Result<Scanned, Skipped> {
    let Item { name, label } = item;
    let decoded = location.read().map_err(|error| error.to_string()).and_then(|bytes| {
        let image = decode(&bytes, &Limits::default()).map_err(|error| error.to_string())?;
        Ok((Format::sniff(&bytes).map_or("", Format::name), image))
    });
    let (format, image) = match decoded {
        Ok(decoded) => decoded,
        Err(reason) => return Err(Skipped { name, reason }),
    };
    let mut hasher = blake3::Hasher::new();
    // The same bytes make other pictures at another width.
    hasher.update(&image.width.to_le_bytes()).update(&image.pixels);
    let (width, height, perceptual) = (image.width, image.height, Perceptual::new(&image));
    Ok(Scanned { name, label, format, width, height, pixels: hasher.finalize(), perceptual })
}

/// Groups among the pictures left when of every exact group only the first is kept.
fn near_duplicates(pictures: &[Scanned], exact: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut copy = vec![false; pictures.len()];
    exact.iter().flat_map(|group| &group[1..]).for_each(|position| copy[*position] = true);
    let hashes: Vec<(usize, u64)> = (0..pictures.len())
        .filter(|position| !copy[*position])
        .filter_map(|position| Some((position, pictures[position].perceptual.as_ref()?.hash)))
        .collect();
    duplicates::near(&hashes, |one, other| {
        let both = pictures[one].perceptual.as_ref().zip(pictures[other].perceptual.as_ref());
        both.is_some_and(|(one, other)| one.resembles(other))
    })
}

fn label_conflicts(pictures: &[Scanned], groups: &[Vec<usize>], exact: bool) -> Vec<LabelConflict> {
    let labelled = |position: &usize| {
        let Scanned { name, label, .. } = &pictures[*position];
        LabelledImage { name: name.clone(), label: label.clone() }
    };
    let differ =
        |group: &&Vec<usize>| group.iter().any(|one| pictures[*one].label != pictures[group[0]].label);
    let conflict = |group: &Vec<usize>| LabelConflict { exact, images: group.iter().map(labelled).collect() };
    groups.iter().filter(differ).map(conflict).collect()
}

fn names(pictures: &[Scanned], groups: &[Vec<usize>]) -> Vec<Vec<String>> {
    let name = |position: &usize| pictures[*position].name.clone();
    groups.iter().map(|group| group.iter().map(name).collect()).collect()
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    keys.fold(BTreeMap::new(), |mut counts, key| {
        *counts.entry(key).or_default() += 1;
        counts
    })
}

fn sizes(pictures: &[Scanned], config: Option<&Config>) -> Sizes {
    let spread = |of: fn(&Scanned) -> f64| Spread::of(pictures.iter().map(of));
    let mut sides = Vec::new();
    if let Some(views) = config.map(|config| &config.views) {
        sides.push(views.random_size);
        sides.extend(
            (views.focal_views > 0 && views.focal_size != views.random_size).then_some(views.focal_size),
        );
    }
    let smaller = |side: usize| {
        let is_smaller = |picture: &&Scanned| (picture.width.min(picture.height) as usize) < side;
        SmallerThanView { side, images: pictures.iter().filter(is_smaller).count() }
    };
    Sizes {
        width: spread(|picture| f64::from(picture.width)),
        height: spread(|picture| f64::from(picture.height)),
        megapixels: spread(|picture| f64::from(picture.width) * f64::from(picture.height) / 1e6),
        aspect: spread(|picture| f64::from(picture.width) / f64::from(picture.height)),
        smaller_than_views: sides.into_iter().map(smaller).collect(),
    }
}

fn classes(pictures: &[Scanned]) -> Classes {
    let images = count(pictures.iter().map(|picture| picture.label.clone()));
    let spread = Spread::of(images.values().map(|images| *images as f64));
    let imbalance = if images.is_empty() { 0.0 } else { spread.max / spread.min };
    Classes { images, spread, imbalance }
}

fn memory(pictures: &[Scanned], options: &DataOptions) -> Memory {
    let bytes = |picture: &Scanned| {
        let (width, height) = (picture.width, picture.height);
        let (width, height) =
            shrunk_size(width, height, options.shrink_short_side).unwrap_or((width, height));
        u64::from(width) * u64::from(height) * 3
    };
    let decoded_bytes = pictures.iter().map(bytes).sum();
    let memory_mib = options.memory_mib;
    Memory { decoded_bytes, memory_mib, fits: decoded_bytes <= memory_mib << 20 }
}

fn errors(report: &Report, config: Option<&Config>) -> Vec<String> {
    if report.readable == 0 {
        return vec![Error::NothingReadable { images: report.images }.to_string()];
    }
    let batch_size = config.map_or(0, |config| config.optimisation.batch_size);
    let images = report.readable;
    let too_few = (images < batch_size).then(|| Error::TooFewImages { images, batch_size }.to_string());
    too_few.into_iter().collect()
}

/// The largest class may have this many times the pictures of the smallest before it is mentioned.
const IMBALANCED: f64 = 10.0;

fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |holds: bool, text: String| warnings.extend(holds.then_some(text));
    let copies = |groups: &[Vec<String>]| groups.iter().map(|group| group.len() - 1).sum::<usize>();
    let (unreadable, conflicts) = (report.unreadable.len(), report.label_conflicts.len());
    warn(unreadable > 0, format!("{unreadable} images cannot be read and are left out"));
    for smaller in report.sizes.smaller_than_views.iter().filter(|smaller| smaller.images > 0) {
        let SmallerThanView { side, images } = smaller;
        warn(
            true,
            format!(
                "{images} images have a side shorter than the {side} pixels of a view: crops are enlarged"
            ),
        );
    }
    let exact = copies(&report.exact_duplicates);
    warn(exact > 0, format!("{exact} images have the same pixels as another"));
    let near = copies(&report.near_duplicates);
    warn(near > 0, format!("{near} images look nearly like another"));
    warn(conflicts > 0, format!("{conflicts} groups of duplicates have different labels"));
    let imbalance = report.classes.imbalance;
    warn(
        imbalance >= IMBALANCED,
        format!("the largest class has {imbalance:.0} times the images of the smallest"),
    );
    warnings
}
