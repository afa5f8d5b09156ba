//! Products by cuBLASLt, which adds the bias and the residual before it rounds.

use super::plan::{Matrix, Product};
use super::trunk::Precision;
use crate::vit::kernels::cuda::plan::Element;
use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr as _};
use candle_core::{Error, Result};
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes that algorithms may use between their parts: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;

/// A handle and a workspace for the products of one stream.
pub(super) struct Multiplier {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    workspace_address: u64,
    stream: Arc<CudaStream>,
    compute: sys::cublasComputeType_t,
}

/// A product with the algorithm chosen for its shape.
pub(super) struct Prepared {
    product: Product,
    description: Description,
    weight: Layout,
    x: Layout,
    /// Where it is not y itself.
    onto: Option<Layout>,
    y: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Multiplier {
    pub(super) fn new(stream: &Arc<CudaStream>, precision: Precision) -> Result<Self> {
        stream.context().bind_to_thread().w()?;
        let handle = checked(result::create_handle())?;
        #[expect(unsafe_code, reason = "fresh device memory is not initialised")]
        // SAFETY: algorithms write their workspace before they read it.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) }.w()?;
        let workspace_address = workspace.device_ptr(stream).0;
        let compute = match precision {
            Precision::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::F32 | Precision::F16 | Precision::Bf16 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        Ok(Self { handle, workspace, workspace_address, stream: stream.clone(), compute })
    }

    /// Chooses an algorithm. cuBLASLt counts by columns: to it a matrix of rows is its transpose, so that it is asked for
    /// yᵀ = weight·xᵀ, and the bias runs along the rows of that.
    pub(super) fn prepare(&self, product: &Product) -> Result<Prepared> {
        let &Product { element, rows, inputs, outputs, x, bias, onto, y, .. } = product;
        let packed = Matrix { address: product.weight, stride: inputs };
        let description = Description::new(self.compute, bias)?;
        let weight = Layout::new(element, packed, outputs, inputs)?;
        let (x, of_y) = (Layout::new(element, x, rows, inputs)?, Layout::new(element, y, rows, outputs)?);
        let apart = onto.filter(|onto| onto.address != y.address);
        let onto = apart.map(|onto| Layout::new(element, onto, rows, outputs)).transpose()?;
        let preference = Preference::new(self.workspace.len())?;
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: all descriptions are alive.
        let chosen = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                description.0,
                weight.0,
                x.0,
                onto.as_ref().map_or(of_y.0, |onto| onto.0),
                of_y.0,
                preference.0,
            )
        };
        let algorithm = checked(chosen)?.algo;
        Ok(Prepared { product: *product, description, weight, x, onto, y: of_y, algorithm })
    }

    /// Queues a product.
    pub(super) fn multiply(&self, prepared: &Prepared) -> Result<()> {
        let Prepared { product, description, weight, x, onto, y, algorithm } = prepared;
        let pointer = |address: u64| address as *const c_void;
        let (one, of_onto) = (1.0_f32, if product.onto.is_some() { 1.0_f32 } else { 0.0 });
        let added = product.onto.unwrap_or(product.y).address;
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: plans keep products within arrays of the lengths they state (checked in the tests), which are alive while
        // the slot is; factors are read before the call returns; the workspace is this stream's alone.
        let queued = unsafe {
            result::matmul(
                self.handle,
                description.0,
                (&raw const one).cast(),
                (&raw const of_onto).cast(),
                pointer(product.weight),
                weight.0,
                pointer(product.x.address),
                x.0,
                pointer(added),
                onto.as_ref().map_or(y.0, |onto| onto.0),
                pointer(product.y.address).cast_mut(),
                y.0,
                algorithm,
                pointer(self.workspace_address).cast_mut(),
                self.workspace.len(),
                self.stream.cu_stream().cast(),
            )
        };
        checked(queued)
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: nobody else has the handle. A failure leaks it.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

fn checked<T>(result: std::result::Result<T, CublasError>) -> Result<T> {
    result.map_err(|error| Error::Msg(format!("cuBLASLt: {error:?}")).bt())
}

/// Transposition of the weight, and the bias.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(compute: sys::cublasComputeType_t, bias: Option<u64>) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let created = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F);
        let description = Self(checked(created)?);
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &1_i32)?;
        if let Some(bias) = bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(description)
    }

    /// `value` must be of the attribute's type.
    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: the description is alive, and the value is read before the call returns.
        checked(unsafe {
            result::set_matmul_desc_attribute(
                self.0,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        })
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: nobody else has it. A failure leaks it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Shape of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(element: Element, matrix: Matrix, rows: usize, columns: usize) -> Result<Self> {
        let element = match element {
            Element::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Element::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            Element::F16 => sys::cudaDataType_t::CUDA_R_16F,
        };
        let created =
            result::create_matrix_layout(element, columns as u64, rows as u64, matrix.stride as i64);
        checked(created).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: nobody else has it. A failure leaks it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What the choice of an algorithm may count on.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(workspace: usize) -> Result<Self> {
        let preference = Self(checked(result::create_matmul_pref())?);
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: the preference is alive, and the value is read before the call returns.
        checked(unsafe {
            result::set_matmul_pref_attribute(
                preference.0,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                size_of::<usize>(),
            )
        })?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "a call into cuBLASLt")]
        // SAFETY: nobody else has it. A failure leaks it.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
