//! Our side of `cargo xtask bench preprocess`.
//!
//! Arguments are folders of photos. Prints a line of JSON when ready, then answers every line of its input with one:
//! `go SET SHORT CROP N` makes the crops of a set N times, `crops SET SHORT CROP FILE` writes them to a file.
#![expect(clippy::print_stdout, reason = "lines of JSON are the answers")]

use dozen_models::Error;
use dozen_models::image::{Filter, Limits, Preprocessor, Resize, RgbImage};
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() -> Result<(), Error> {
    let sets = std::env::args().skip(1).map(|folder| photos(Path::new(&folder)));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    println!("{{}}");
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|source| Error::Io { path: "standard input".into(), source })?;
        let [verb, set, short_side, crop, last] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(Error::Input(format!("`{line}` is neither `go` nor `crops`")));
        };
        let number = |text: &str| text.parse().map_err(|_| Error::Input(format!("`{text}` is no number")));
        let resize = Resize::ShortSideThenCrop { short_side: number(short_side)?, crop: number(crop)? };
        let preprocessor = Preprocessor { resize, filter: Filter::Bilinear, mean: [0.5; 3], std: [0.5; 3] };
        let photos = sets.get(number(set)? as usize).map(Vec::as_slice).unwrap_or_default();
        let crop = |bytes: &Vec<u8>| {
            let crop = preprocessor.decode_crop(bytes, &Limits::default());
            crop.map(|(crop, _)| crop).map_err(|error| Error::Input(error.to_string()))
        };
        let answer = if verb == "go" {
            let rounds = number(last)?;
            let started = Instant::now();
            for bytes in (0..rounds).flat_map(|_| photos) {
                crop(bytes)?;
            }
            let crops = f64::from(rounds) * photos.len() as f64;
            serde_json::json!({ "seconds": started.elapsed().as_secs_f64() / crops })
        } else {
            let crops = photos.iter().map(crop).collect::<Result<Vec<RgbImage>, _>>()?;
            let bytes: Vec<u8> = crops.into_iter().flat_map(|crop| crop.pixels).collect();
            std::fs::write(last, bytes).map_err(|source| Error::Io { path: last.into(), source })?;
            serde_json::json!({ "photos": photos.len() })
        };
        println!("{answer}");
    }
    Ok(())
}

fn photos(folder: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |path: &Path, source| Error::Io { path: path.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(|source| failed(folder, source))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).map_err(|source| failed(path, source))).collect()
}
