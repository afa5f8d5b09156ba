//! Which images are labelled and which are queries.

use super::Features;
use crate::Error;
use crate::data::order::{Purpose, keyed_rng};
use rand::seq::SliceRandom as _;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// Positions into a set of features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Labelled images.
    pub labelled: Vec<usize>,
    /// Images to classify.
    pub queries: Vec<usize>,
}

/// How many images of a class are labelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shots {
    /// So many.
    PerClass(usize),
    /// This share of the class in percent, rounded, at least one.
    Percent(f64),
}

impl Shots {
    fn of(self, members: usize) -> usize {
        match self {
            Self::PerClass(count) => count,
            Self::Percent(percent) => ((members as f64 * percent / 100.0).round() as usize).max(1),
        }
    }
}

impl FromStr for Shots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed =
            || format!("`{text}` is neither a number of images, such as 5, nor a share, such as 1%");
        match text.strip_suffix('%') {
            Some(percent) => percent
                .trim()
                .parse()
                .ok()
                .filter(|percent| *percent > 0.0 && *percent < 100.0)
                .map(Self::Percent)
                .ok_or_else(malformed),
            None => text.parse().ok().filter(|count| *count > 0).map(Self::PerClass).ok_or_else(malformed),
        }
    }
}

impl std::fmt::Display for Shots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PerClass(count) => count.fmt(formatter),
            Self::Percent(percent) => write!(formatter, "{percent} %"),
        }
    }
}

/// A number where it is one, otherwise text.
impl Serialize for Shots {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PerClass(count) => serializer.serialize_u64(*count as u64),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

/// `draws` splits with `shots` labelled images of every class, drawn at random; the rest are queries.
pub fn drawn_splits(features: &Features, shots: Shots, draws: usize, seed: u64) -> Result<Vec<Split>, Error> {
    let mut members = vec![Vec::new(); features.classes.len()];
    for (position, &label) in features.labels.iter().enumerate() {
        members[label].push(position);
    }
    if members.len() < 2 {
        return Err(Error::Evaluation("two classes or more are needed: one folder of images each".into()));
    }
    if let Some(label) = members.iter().position(|members| members.len() <= shots.of(members.len())) {
        let (class, images) = (&features.classes[label], members[label].len());
        let reason = format!(
            "class {class} has {images} images, {shots} shots need {} or more; ask for fewer shots",
            shots.of(images) + 1
        );
        return Err(Error::Evaluation(reason));
    }
    let key = match shots {
        Shots::PerClass(count) => count as u32,
        Shots::Percent(percent) => u32::MAX - (1000.0 * percent) as u32,
    };
    let draw = |draw: usize| {
        let mut rng = keyed_rng(seed, Purpose::Draw, draw as u64, key, 0);
        let mut split = Split { labelled: Vec::new(), queries: Vec::new() };
        for members in &members {
            let mut members = members.clone();
            let count = shots.of(members.len());
            let (labelled, queries) = members.partial_shuffle(&mut rng, count);
            split.labelled.extend_from_slice(labelled);
            split.queries.extend_from_slice(queries);
        }
        split
    };
    Ok((0..draws).map(draw).collect())
}

/// The split of a list of names, one per line: these are labelled; queries are those of `queries`, or else the rest.
pub fn listed_split(features: &Features, labelled: &str, queries: Option<&str>) -> Result<Split, Error> {
    let by_file = positions_by_file(features);
    let labelled = resolve(features, &by_file, labelled)?;
    let queries = if let Some(list) = queries {
        resolve(features, &by_file, list)?
    } else {
        let taken: HashSet<usize> = labelled.iter().copied().collect();
        (0..features.names.len()).filter(|position| !taken.contains(position)).collect()
    };
    if labelled.is_empty() || queries.is_empty() {
        return Err(Error::Evaluation("the lists leave no labelled images or no queries".into()));
    }
    let known: HashSet<usize> = labelled.iter().map(|&position| features.labels[position]).collect();
    if let Some(&stranger) = queries.iter().find(|&&position| !known.contains(&features.labels[position])) {
        let (class, name) = (&features.classes[features.labels[stranger]], &features.names[stranger]);
        let reason = format!("query {name} is of class {class}, of which no image is listed as labelled");
        return Err(Error::Evaluation(reason));
    }
    Ok(Split { labelled, queries })
}

fn positions_by_file(features: &Features) -> HashMap<&str, Vec<usize>> {
    let mut by_file: HashMap<&str, Vec<usize>> = HashMap::new();
    for (position, name) in features.names.iter().enumerate() {
        by_file.entry(file_name(name)).or_default().push(position);
    }
    by_file
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A line names an image by its path or by the end of it (`class/file.jpg` or `file.jpg`).
fn resolve(
    features: &Features,
    by_file: &HashMap<&str, Vec<usize>>,
    list: &str,
) -> Result<Vec<usize>, Error> {
    let mut positions = Vec::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let ends_with = |name: &str| {
            name.strip_suffix(line).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        let candidates = by_file.get(file_name(line)).map_or(&[][..], Vec::as_slice);
        let matching: Vec<usize> =
            candidates.iter().copied().filter(|&position| ends_with(&features.names[position])).collect();
        match matching[..] {
            [position] => positions.push(position),
            [] => return Err(Error::Evaluation(format!("`{line}` of the list is not among the images"))),
            [..] => {
                let reason =
                    format!("`{line}` of the list names {} images; give more of its path", matching.len());
                return Err(Error::Evaluation(reason));
            }
        }
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> Features {
        let names: Vec<String> =
            ["a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/4.png"].map(String::from).to_vec();
        Features {
            labels: vec![0, 0, 0, 1, 1, 1],
            classes: vec!["a".into(), "b".into()],
            vectors: vec![vec![1.0]; names.len()],
            names,
        }
    }

    #[test]
    fn a_draw_takes_every_class_and_leaves_the_rest() {
        let splits = drawn_splits(&features(), Shots::PerClass(2), 10, 0).unwrap();
        for split in &splits {
            assert_eq!(split.labelled.iter().filter(|&&position| position < 3).count(), 2);
            assert_eq!(split.labelled.len(), 4);
            let mut all = [&split.labelled[..], &split.queries[..]].concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        }
        assert!(splits.iter().any(|split| split != &splits[0]));
        assert_eq!(splits, drawn_splits(&features(), Shots::PerClass(2), 10, 0).unwrap());
        let error = drawn_splits(&features(), Shots::PerClass(3), 1, 0).unwrap_err().to_string();
        assert!(error.contains("class a") && error.contains("fewer shots"), "{error}");
    }

    #[test]
    fn a_share_is_of_each_class_and_at_least_one() {
        assert_eq!("13".parse(), Ok(Shots::PerClass(13)));
        assert_eq!("1%".parse(), Ok(Shots::Percent(1.0)));
        assert!(
            "0".parse::<Shots>().is_err()
                && "100%".parse::<Shots>().is_err()
                && "x".parse::<Shots>().is_err()
        );
        assert_eq!((Shots::Percent(1.0).of(1300), Shots::Percent(1.0).of(20)), (13, 1));
        let splits = drawn_splits(&features(), Shots::Percent(60.0), 3, 0).unwrap();
        assert!(splits.iter().all(|split| split.labelled.len() == 4), "{splits:?}");
        assert_eq!(
            serde_json::to_string(&[Shots::PerClass(5), Shots::Percent(1.0)]).unwrap(),
            r#"[5,"1 %"]"#
        );
    }

    #[test]
    fn lists_name_images_by_the_end_of_their_path() {
        let features = features();
        let split = listed_split(&features, "a/1.png\n\n4.png\n", None).unwrap();
        assert_eq!(split, Split { labelled: vec![0, 5], queries: vec![1, 2, 3, 4] });
        let split = listed_split(&features, "a/1.png\nb/1.png", Some("a/2.png")).unwrap();
        assert_eq!(split.queries, [1]);
        let reason = |list: &str| listed_split(&features, list, None).unwrap_err().to_string();
        assert!(reason("1.png").contains("names 2 images"));
        assert!(reason("c/9.png").contains("not among"));
        assert!(reason("a/1.png").contains("class b"));
    }
}
