//! Vectors that lie as embeddings do, in files that every side reads.
//!
//! Embeddings of images fill few of their dimensions, and classes lie in heaps: a vector is a class's centre and its own
//! deviation in 24 directions, and noise in all. (Centres at random in all dimensions would be equally far from each other:
//! nothing would lead a search from one class to another.)

use super::{DIMENSIONS, QUERIES};
use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Directions that tell vectors apart.
const DIRECTIONS: usize = 24;
/// Vectors of one class.
const PER_CLASS: usize = 100;
/// Deviation within a class, where centres deviate by 1.
const WITHIN: f32 = 0.7;
const NOISE: f32 = 0.3;

/// Vectors and queries in a folder that goes with this.
pub(super) struct Data {
    folder: tempfile::TempDir,
    /// Number of vectors.
    pub(super) size: usize,
    pub(super) queries: Vec<Vec<f32>>,
}

impl Data {
    /// Makes `size` vectors, and queries.
    pub(super) fn write(size: usize) -> Result<Self> {
        let mut generator = Generator::new(size);
        let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| generator.vector()).collect();
        let data = Self { folder: tempfile::tempdir()?, size, queries };
        write(&data.queries_file(), data.queries.iter().cloned())?;
        write(&data.vectors_file(), (0..size).map(|_| generator.vector()))?;
        Ok(data)
    }

    /// Little-endian f32, row by row.
    pub(super) fn vectors_file(&self) -> PathBuf {
        self.folder.path().join("vectors")
    }

    pub(super) fn queries_file(&self) -> PathBuf {
        self.folder.path().join("queries")
    }

    /// Where a peer puts its answers.
    pub(super) fn answers_file(&self) -> PathBuf {
        self.folder.path().join("answers")
    }

    /// Hands on every vector with its id, in order.
    pub(super) fn each(&self, mut take: impl FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
        let path = self.vectors_file();
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut bytes = vec![0; 4 * DIMENSIONS];
        for id in 0..self.size as u64 {
            file.read_exact(&mut bytes)?;
            let (components, _) = bytes.as_chunks();
            let vector: Vec<f32> =
                components.iter().map(|component| f32::from_le_bytes(*component)).collect();
            take(id, &vector)?;
        }
        Ok(())
    }
}

fn write(path: &Path, vectors: impl Iterator<Item = Vec<f32>>) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    for vector in vectors {
        for component in vector {
            file.write_all(&component.to_le_bytes())?;
        }
    }
    file.flush().with_context(|| format!("cannot write {}", path.display()))
}

struct Generator {
    rng: ChaCha8Rng,
    directions: Vec<Vec<f32>>,
    centres: Vec<Vec<f32>>,
}

impl Generator {
    fn new(size: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let directions = (0..DIRECTIONS).map(|_| noise(&mut rng, DIMENSIONS)).collect();
        let centres = (0..size.div_ceil(PER_CLASS)).map(|_| noise(&mut rng, DIRECTIONS)).collect();
        Self { rng, directions, centres }
    }

    fn vector(&mut self) -> Vec<f32> {
        let centre = self.rng.random_range(0..self.centres.len());
        let deviation = noise(&mut self.rng, DIRECTIONS);
        let mut vector: Vec<f32> =
            noise(&mut self.rng, DIMENSIONS).into_iter().map(|noise| NOISE * noise).collect();
        for (direction, (centre, deviation)) in
            self.directions.iter().zip(self.centres[centre].iter().zip(deviation))
        {
            let weight = centre + WITHIN * deviation;
            for (x, direction) in vector.iter_mut().zip(direction) {
                *x += weight * direction;
            }
        }
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        for x in &mut vector {
            *x /= norm;
        }
        vector
    }
}

/// Nearly Gaussian components: sums of four uniform ones.
fn noise(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| (0..4).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
}
