//! The trunk on a device, with two slots for passes.

use super::Network;
use super::batch::{Images, parts};
use super::slot::Slot;
use super::weights::{Task, lay_out};
use crate::Error;
use crate::image::RgbImage;
use crate::vit::Vit;
use crate::vit::cpu::Kept;
use crate::vit::kernels::cuda::KERNELS;
use crate::vit::kernels::cuda::plan::Element;
use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr as _};
use candle_core::{CudaDevice, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Passes on their way at a time: one is copied while the other is computed.
const SLOTS: usize = 2;

/// Type of the arithmetic. Sums, LayerNorms and softmaxes are f32 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Floats throughout.
    F32,
    /// Floats in memory, whose products keep 10 bits of the fraction.
    Tf32,
    /// Weights and activations with 10 bits of the fraction and 5 of the exponent.
    F16,
    /// Weights and activations with 7 bits of the fraction and 8 of the exponent.
    Bf16,
}

impl Precision {
    fn element(self) -> Element {
        match self {
            Self::F32 | Self::Tf32 => Element::F32,
            Self::F16 => Element::F16,
            Self::Bf16 => Element::Bf16,
        }
    }
}

/// See the module.
pub struct CudaVit {
    network: Network,
    // Dropped, and so waited for, before the weights they read.
    slots: Vec<Mutex<Slot>>,
    weights_address: u64,
    /// Kept for the slots, which know it by its address.
    _weights: CudaSlice<u8>,
    /// How often somebody had to wait for a slot.
    turns: AtomicUsize,
}

impl CudaVit {
    /// Lays `vit` out on a device; `None` where the network has parts that this execution does not know: biases by
    /// position, heads that are neither 32 nor 64 wide.
    pub fn new(
        vit: &Vit,
        device: &CudaDevice,
        task: &Task,
        precision: Precision,
    ) -> std::result::Result<Option<Self>, Error> {
        let Some((network, memory)) = lay_out(vit, task, precision.element())? else { return Ok(None) };
        Ok(Some(Self::upload(network, &memory, &device.cuda_stream(), precision)?))
    }

    fn upload(
        network: Network,
        memory: &[u8],
        stream: &Arc<CudaStream>,
        precision: Precision,
    ) -> Result<Self> {
        let weights = stream.clone_htod(memory).w()?;
        let weights_address = weights.device_ptr(stream).0;
        // The slots' streams do not know of this one.
        stream.synchronize().w()?;
        let module = stream.context().load_module(KERNELS.into()).w()?;
        let slot = |_| {
            let stream = stream.context().new_stream().w()?;
            Slot::new(stream, module.clone(), precision).map(Mutex::new)
        };
        let slots = (0..SLOTS).map(slot).collect::<Result<Vec<_>>>()?;
        Ok(Self { network, _weights: weights, weights_address, slots, turns: AtomicUsize::new(0) })
    }

    /// Vectors, not yet of unit length, of crops that each have `kept` patches: `[images, D]`. With several lists for each
    /// crop, in turn, there is an image for each.
    pub fn run(&self, crops: &[RgbImage], kept: Kept<'_>) -> std::result::Result<Vec<f32>, Error> {
        let lists = kept.lists(crops.len());
        let (count, tokens, width) = (crops.len() * lists, 1 + kept.of(0).len(), self.network.width);
        let images = Images { crops, kept, lists };
        let mut vectors = vec![0.0; count * width];
        let mut collect = |slot: &mut Slot, part: Range<usize>| {
            slot.collect(&mut vectors[part.start * width..part.end * width])
        };
        let mut on_their_way: VecDeque<(MutexGuard<'_, Slot>, Range<usize>)> = VecDeque::new();
        for part in parts(count, self.network.most_images(tokens)) {
            let mut slot = if let Some(slot) = self.free_slot() {
                slot
            } else if let Some((mut slot, part)) = on_their_way.pop_front() {
                // Who holds a slot waits for its own passes only: others may hold what it would wait for.
                collect(&mut slot, part)?;
                slot
            } else {
                self.next_slot()
            };
            slot.submit(&self.network, self.weights_address, images, &part)?;
            on_their_way.push_back((slot, part));
        }
        for (mut slot, part) in on_their_way {
            collect(&mut slot, part)?;
        }
        Ok(vectors)
    }

    fn free_slot(&self) -> Option<MutexGuard<'_, Slot>> {
        self.slots.iter().find_map(|slot| match slot.try_lock() {
            Ok(slot) => Some(slot),
            Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    /// Waits for a slot, each in its turn.
    fn next_slot(&self) -> MutexGuard<'_, Slot> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        self.slots[turn].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
