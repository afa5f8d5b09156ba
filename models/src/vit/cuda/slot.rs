//! What a pass needs for itself: a stream, arrays on the device, pinned memory on the host, and its steps as graphs.

use super::batch::{self, Images, bucket};
use super::plan::{Plan, Step};
use super::product::{Multiplier, Prepared};
use super::trunk::Precision;
use super::{MOST_BYTES, Network};
use crate::vit::kernels::cuda::plan::{Argument, Launch};
use candle_core::Result;
use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr as _, LaunchConfig,
    PinnedHostSlice, PushKernelArg as _,
};
use std::ops::Range;
use std::sync::Arc;

/// Prepared numbers of images and tokens; beyond that, the one that was used longest ago is forgotten.
const MOST_SEQUENCES: usize = 48;

/// See the module. All its work is queued on one stream, in order.
pub(super) struct Slot {
    // Before what they refer to, so that they are dropped first.
    sequences: Vec<Sequence>,
    multiplier: Multiplier,
    module: Arc<CudaModule>,
    memory: Option<Memory>,
    stream: Arc<CudaStream>,
    /// Counts passes.
    clock: u64,
    /// Whether a pass is on its way.
    is_busy: bool,
}

#[expect(unsafe_code, reason = "cuBLASLt's descriptions and graphs are pointers")]
// SAFETY: they are owned by the slot alone, bound to no thread, and used through `&mut`; every use makes the context current.
unsafe impl Send for Slot {}

/// Arrays of a pass, as large as any so far needed.
struct Memory {
    arrays: CudaSlice<u8>,
    address: u64,
    /// Table and crops on their way to the device.
    given: PinnedHostSlice<u8>,
    /// Vectors on their way back.
    vectors: PinnedHostSlice<f32>,
}

/// The steps for one number of images and tokens.
struct Sequence {
    plan: Plan,
    commands: Vec<Command>,
    replay: Replay,
    last_used: u64,
}

enum Command {
    Launch(CudaFunction, Launch),
    Product(Box<Prepared>),
}

/// How steps are queued.
enum Replay {
    /// One by one, for the first time: kernels are loaded on the way.
    First,
    /// As a graph from now on, if they can be captured.
    Again,
    Graph(CudaGraph),
    /// One by one, because they could not be captured.
    Never,
}

impl Slot {
    pub(super) fn new(
        stream: Arc<CudaStream>,
        module: Arc<CudaModule>,
        precision: Precision,
    ) -> Result<Self> {
        let multiplier = Multiplier::new(&stream, precision)?;
        let (sequences, memory) = (Vec::new(), None);
        Ok(Self { sequences, multiplier, module, memory, stream, clock: 0, is_busy: false })
    }

    /// Queues a pass over a range of images: the copy to the device, the steps, the copy back. Waits for nothing but what
    /// this slot did before.
    pub(super) fn submit(
        &mut self,
        network: &Network,
        weights: u64,
        images: Images<'_>,
        part: &Range<usize>,
    ) -> Result<()> {
        self.stream.context().bind_to_thread().w()?;
        self.wait()?;
        let tokens = 1 + images.kept.of(part.start).len();
        let number = self.sequence(network, weights, bucket(part.len()), tokens)?;
        let (Some(memory), sequence) = (&mut self.memory, &mut self.sequences[number]) else { return Ok(()) };
        let plan = &sequence.plan;
        let filled = batch::filled(plan, part, images.lists, network.crop_bytes());
        let given = &mut memory.given.as_mut_slice().w()?[..filled];
        batch::fill(given, plan, images, part);
        let vectors = &mut memory.vectors.as_mut_slice().w()?[..part.len() * network.width];
        let output = memory.address + plan.output(network) as u64;
        self.is_busy = true;
        #[expect(unsafe_code, reason = "copies that the host does not wait for")]
        // SAFETY: both buffers are pinned, belong to this slot, and are left alone until `wait` has returned, which the slot's
        // drop calls too; `Memory` is as long as the plan asks for.
        unsafe {
            memcpy_htod_async(memory.address, given, self.stream.cu_stream()).w()?;
            sequence.queue(&self.stream, &self.multiplier)?;
            memcpy_dtoh_async(vectors, output, self.stream.cu_stream()).w()
        }
    }

    /// Waits for the pass, and copies its vectors.
    pub(super) fn collect(&mut self, vectors: &mut [f32]) -> Result<()> {
        self.wait()?;
        if let Some(memory) = &self.memory {
            vectors.copy_from_slice(&memory.vectors.as_slice().w()?[..vectors.len()]);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        if self.is_busy {
            self.stream.synchronize().w()?;
            self.is_busy = false;
        }
        Ok(())
    }

    /// The place of the steps for so many images and tokens, prepared if they were not.
    fn sequence(&mut self, network: &Network, weights: u64, images: usize, tokens: usize) -> Result<usize> {
        self.clock += 1;
        let wanted = |one: &Sequence| one.plan.images == images && one.plan.tokens == tokens;
        if let Some(number) = self.sequences.iter().position(wanted) {
            self.sequences[number].last_used = self.clock;
            return Ok(number);
        }
        let plan = Plan::new(network, images, tokens);
        let arrays = self.make_room(&plan, network)?;
        let mut commands = Vec::new();
        for step in plan.steps(network, arrays, weights) {
            commands.push(match step {
                Step::Launch(launch) => {
                    Command::Launch(self.module.load_function(&launch.kernel).w()?, launch)
                }
                Step::Product(product) => Command::Product(Box::new(self.multiplier.prepare(&product)?)),
            });
        }
        if self.sequences.len() >= MOST_SEQUENCES {
            let oldest = (0..self.sequences.len()).min_by_key(|&number| self.sequences[number].last_used);
            self.sequences.swap_remove(oldest.unwrap_or(0));
        }
        self.sequences.push(Sequence { plan, commands, replay: Replay::First, last_used: self.clock });
        Ok(self.sequences.len() - 1)
    }

    /// Makes the arrays large enough, which moves them: steps prepared before are forgotten. Their address.
    fn make_room(&mut self, plan: &Plan, network: &Network) -> Result<u64> {
        // At once for all patches, so that budgets need not grow.
        let whole = Plan::new(network, plan.images, 1 + network.grid * network.grid);
        let plan = if whole.bytes <= MOST_BYTES { &whole } else { plan };
        let wanted = [plan.bytes, plan.given_bytes(), plan.images * network.width];
        let present = self.memory.as_ref().map_or([0; 3], Memory::lengths);
        if let Some(memory) = &self.memory
            && wanted.iter().zip(present).all(|(wanted, present)| *wanted <= present)
        {
            return Ok(memory.address);
        }
        self.sequences.clear();
        self.memory = None;
        let lengths = [0, 1, 2].map(|number| wanted[number].max(present[number]));
        let memory = Memory::new(&self.stream, lengths)?;
        Ok(self.memory.insert(memory).address)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A pass that still runs writes to the buffers. After a failure there is nothing to wait for.
        let _ = self.wait();
    }
}

impl Memory {
    fn new(stream: &Arc<CudaStream>, [bytes, given, vectors]: [usize; 3]) -> Result<Self> {
        let context = stream.context();
        #[expect(unsafe_code, reason = "fresh memory is not initialised")]
        // SAFETY: plans write every array before anything reads it (the emulator's arrays begin as NaN), and every bit
        // pattern is a byte or a float.
        let (arrays, given, vectors) = unsafe {
            (
                stream.alloc::<u8>(bytes).w()?,
                context.alloc_pinned::<u8>(given).w()?,
                // Not write-combined: the host reads it.
                context.alloc_pinned_with_flags::<f32>(vectors, 0).w()?,
            )
        };
        let address = arrays.device_ptr(stream).0;
        Ok(Self { arrays, address, given, vectors })
    }

    fn lengths(&self) -> [usize; 3] {
        [self.arrays.len(), self.given.len(), self.vectors.len()]
    }
}

impl Sequence {
    fn queue(&mut self, stream: &Arc<CudaStream>, multiplier: &Multiplier) -> Result<()> {
        match &self.replay {
            Replay::Graph(graph) => return graph.launch().w(),
            Replay::First => self.replay = Replay::Again,
            Replay::Again => {
                if let Some(graph) = self.capture(stream, multiplier) {
                    graph.launch().w()?;
                    self.replay = Replay::Graph(graph);
                    return Ok(());
                }
                self.replay = Replay::Never;
            }
            Replay::Never => {}
        }
        self.queue_steps(stream, multiplier)
    }

    fn queue_steps(&self, stream: &Arc<CudaStream>, multiplier: &Multiplier) -> Result<()> {
        for command in &self.commands {
            match command {
                Command::Launch(function, launch) => queue_launch(stream, function, launch)?,
                Command::Product(product) => multiplier.multiply(product)?,
            }
        }
        Ok(())
    }

    /// The steps as a graph; `None` where the driver or a library would not have it.
    fn capture(&self, stream: &Arc<CudaStream>, multiplier: &Multiplier) -> Option<CudaGraph> {
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).ok()?;
        let queued = self.queue_steps(stream, multiplier);
        // Ended in any case: a stream that captures runs nothing.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        queued.ok()?;
        graph.ok().flatten()
    }
}

fn queue_launch(stream: &Arc<CudaStream>, function: &CudaFunction, launch: &Launch) -> Result<()> {
    let Launch { grid: [x, y, z], threads, arguments, .. } = launch;
    let mut builder = stream.launch_builder(function);
    for argument in arguments {
        match argument {
            Argument::Address(address) => builder.arg(address),
            Argument::Int(value) => builder.arg(value),
            Argument::Long(value) => builder.arg(value),
            Argument::Float(value) => builder.arg(value),
        };
    }
    let grid = LaunchConfig { grid_dim: (*x, *y, *z), block_dim: (*threads, 1, 1), shared_mem_bytes: 0 };
    #[expect(unsafe_code, reason = "the driver cannot check what a kernel does with its arguments")]
    // SAFETY: plans pass the number and types of arguments the kernels declare and stay within arrays of the lengths they
    // state (both checked by the emulator), which are alive while the slot is.
    unsafe { builder.launch(grid) }.w()?;
    Ok(())
}
