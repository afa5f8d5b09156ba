//! The client of models/tests/cuda_emulator: compiles it once with the system's C++ compiler, and runs plans on it.

use crate::vit::kernels::cuda::plan::{Argument, Launch};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
/// Folders of the sources, relative to the crate.
const SOURCES: [&str; 2] = ["tests/cuda_emulator", "src/vit/kernels/cuda/source"];

/// A process with the arrays of one test.
pub(in crate::vit) struct Emulator {
    process: Child,
    pipes: RefCell<(ChildStdin, ChildStdout)>,
    /// Order in which threads and blocks take turns.
    backwards: bool,
}

impl Emulator {
    /// Runs `test` with the threads of each block taking turns in both orders; prints SKIPPED without a C++ compiler. The
    /// outcomes must be the same bits: a difference is a race.
    pub(in crate::vit) fn run(test: impl Fn(&Self) -> Vec<Vec<f32>>) -> Option<Vec<Vec<f32>>> {
        static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
        let Some(program) = PROGRAM.get_or_init(compile) else {
            println!("SKIPPED: there is no C++ compiler (c++) to run the CUDA kernels on the CPU with");
            return None;
        };
        let bits = |results: &[Vec<f32>]| -> Vec<Vec<u32>> {
            results.iter().map(|result| result.iter().map(|value| value.to_bits()).collect()).collect()
        };
        let [forwards, backwards] = [false, true].map(|backwards| test(&Self::start(program, backwards)));
        assert!(bits(&forwards) == bits(&backwards), "the outcome depends on the order of the threads");
        Some(forwards)
    }

    fn start(program: &Path, backwards: bool) -> Self {
        let mut process = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pipes = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, pipes: RefCell::new(pipes), backwards }
    }

    fn request(&self, words: &[&[u8]], answer: &mut [u8]) {
        let mut pipes = self.pipes.borrow_mut();
        for word in words {
            pipes.0.write_all(word).unwrap();
        }
        pipes.0.flush().unwrap();
        pipes.1.read_exact(answer).unwrap();
    }

    /// Address of a new array of so many bytes, filled with NaN.
    pub(in crate::vit) fn allocate(&self, bytes: usize) -> u64 {
        let mut address = [0; 8];
        self.request(&[&0_u32.to_le_bytes(), &(bytes as u64).to_le_bytes()], &mut address);
        u64::from_le_bytes(address)
    }

    pub(in crate::vit) fn upload(&self, bytes: &[u8]) -> u64 {
        let address = self.allocate(bytes.len());
        self.write(address, bytes);
        address
    }

    /// Replaces a part of an array.
    pub(in crate::vit) fn write(&self, address: u64, bytes: &[u8]) {
        let head = [&1_u32.to_le_bytes()[..], &address.to_le_bytes(), &(bytes.len() as u64).to_le_bytes()];
        self.request(&[&head.concat(), bytes], &mut []);
    }

    pub(in crate::vit) fn download(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let head = [&2_u32.to_le_bytes()[..], &address.to_le_bytes(), &(length as u64).to_le_bytes()];
        self.request(&[&head.concat()], &mut bytes);
        bytes
    }

    /// An f32 array filled with NaN.
    pub(in crate::vit) fn floats(&self, length: usize) -> u64 {
        self.allocate(4 * length)
    }

    pub(in crate::vit) fn upload_floats(&self, values: &[f32]) -> u64 {
        self.upload(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    pub(in crate::vit) fn upload_words(&self, words: &[u64]) -> u64 {
        self.upload(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    pub(in crate::vit) fn download_floats(&self, address: u64, length: usize) -> Vec<f32> {
        let bytes = self.download(address, 4 * length);
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    }

    pub(in crate::vit) fn launch(&self, launches: &[Launch]) {
        for Launch { kernel, grid, threads, arguments } in launches {
            let (mut letters, mut words) = (String::new(), Vec::new());
            for argument in arguments {
                let (letter, bits) = match *argument {
                    Argument::Address(address) => ('p', address),
                    Argument::Int(value) => ('i', u64::from(value as u32)),
                    Argument::Long(value) => ('l', value as u64),
                    Argument::Float(value) => ('f', u64::from(value.to_bits())),
                };
                letters.push(letter);
                words.extend(bits.to_le_bytes());
            }
            let name = format!("{kernel}:{letters}");
            let mut request =
                [3, u32::from(self.backwards), name.len() as u32].map(u32::to_le_bytes).concat();
            request.extend(name.as_bytes());
            let numbers = [grid[0], grid[1], grid[2], *threads, arguments.len() as u32];
            request.extend(numbers.map(u32::to_le_bytes).concat());
            request.extend(words);
            self.request(&[&request], &mut []);
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The emulator's program, beside the test's, under a name that says from which sources; `None` without a compiler.
fn compile() -> Option<PathBuf> {
    let folders = SOURCES.map(|folder| Path::new(CRATE).join(folder));
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .collect();
    files.sort();
    let mut hash = blake3::Hasher::new();
    for file in &files {
        hash.update(&std::fs::read(file).unwrap());
    }
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let program = folder.join(format!("cuda-emulator-{}", &hash.finalize().to_hex()[..16]));
    if program.exists() {
        return Some(program);
    }
    let unfinished = folder.join(format!("cuda-emulator-{}.new", std::process::id()));
    let mut compiler = Command::new("c++");
    // Fibres jump between stacks, which the fortified longjmp refuses.
    compiler.args([
        "-std=c++17",
        "-O2",
        "-w",
        "-U_FORTIFY_SOURCE",
        "-fno-strict-aliasing",
        "-ffp-contract=off",
    ]);
    for folder in &folders {
        compiler.arg("-I").arg(folder);
    }
    compiler.arg("-o").arg(&unfinished).arg(folders[0].join("main.cpp"));
    match compiler.status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        status => {
            assert!(status.unwrap().success(), "the CUDA kernels do not compile as C++");
            std::fs::rename(&unfinished, &program).unwrap();
            Some(program)
        }
    }
}
