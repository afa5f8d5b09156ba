//! Element-wise changes of a tensor by others of its shape: in place on the CPU, composed of tensor operations elsewhere.
//!
//! A step changes every parameter, two moments of it and its moving average. Composing that costs a dozen passes over
//! fresh memory per parameter; in place it is one pass each.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, WithDType};

/// `x ← a·x + b·y`.
pub(super) fn blend(x: &Var, y: &Tensor, a: f64, b: f64) -> Result<()> {
    if in_place(x) {
        return x.inplace_op2(y, &Map2(|x: f64, y: f64| a * x + b * y));
    }
    x.set(&((x.as_tensor().detach() * a)? + (y * b)?)?)
}

/// `x ← a·x + b·y²`.
pub(super) fn blend_square(x: &Var, y: &Tensor, a: f64, b: f64) -> Result<()> {
    if in_place(x) {
        return x.inplace_op2(y, &Map2(|x: f64, y: f64| a * x + b * y * y));
    }
    x.set(&((x.as_tensor().detach() * a)? + (y.sqr()? * b)?)?)
}

/// `x ← a·x − rate·y / (√z / root + eps)`.
pub(super) fn descend(x: &Var, [y, z]: [&Var; 2], a: f64, rate: f64, root: f64, eps: f64) -> Result<()> {
    if in_place(x) {
        return x.inplace_op3(
            y,
            z,
            &Map3(|x: f64, y: f64, z: f64| a * x - rate * y / (z.sqrt() / root + eps)),
        );
    }
    let (y, z) = (y.as_tensor().detach(), z.as_tensor().detach());
    let change = ((y * rate)? / ((z.sqrt()? / root)? + eps)?)?;
    x.set(&((x.as_tensor().detach() * a)? - change)?)
}

fn in_place(x: &Var) -> bool {
    x.device().is_cpu()
}

/// A change by one other tensor, as a function of the two elements.
struct Map2<F>(F);

/// A change by two other tensors, as a function of the three elements.
struct Map3<F>(F);

/// The elements a layout covers, which must lie side by side.
fn part(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => Err(candle_core::Error::RequiresContiguous { op: "element-wise update" }),
    }
}

fn map2<T: WithDType>(x: &mut [T], y: &[T], change: impl Fn(f64, f64) -> f64) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = T::from_f64(change(x.to_f64(), y.to_f64()));
    }
}

fn map3<T: WithDType>(x: &mut [T], y: &[T], z: &[T], change: impl Fn(f64, f64, f64) -> f64) {
    for ((x, y), z) in x.iter_mut().zip(y).zip(z) {
        *x = T::from_f64(change(x.to_f64(), y.to_f64(), z.to_f64()));
    }
}

fn unsupported<T>() -> Result<T> {
    Err(candle_core::Error::Msg("parameters must all be f32 or all f64".into()))
}

impl<F: Fn(f64, f64) -> f64> InplaceOp2 for Map2<F> {
    fn name(&self) -> &'static str {
        "element-wise update"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<()> {
        let (at, from) = (part(x_layout)?, part(y_layout)?);
        match (x, y) {
            (CpuStorage::F32(x), CpuStorage::F32(y)) => map2(&mut x[at], &y[from], &self.0),
            (CpuStorage::F64(x), CpuStorage::F64(y)) => map2(&mut x[at], &y[from], &self.0),
            _ => return unsupported(),
        }
        Ok(())
    }
}

impl<F: Fn(f64, f64, f64) -> f64> InplaceOp3 for Map3<F> {
    fn name(&self) -> &'static str {
        "element-wise update"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        z: &CpuStorage,
        z_layout: &Layout,
    ) -> Result<()> {
        let (at, from, and_from) = (part(x_layout)?, part(y_layout)?, part(z_layout)?);
        match (x, y, z) {
            (CpuStorage::F32(x), CpuStorage::F32(y), CpuStorage::F32(z)) => {
                map3(&mut x[at], &y[from], &z[and_from], &self.0);
            }
            (CpuStorage::F64(x), CpuStorage::F64(y), CpuStorage::F64(z)) => {
                map3(&mut x[at], &y[from], &z[and_from], &self.0);
            }
            _ => return unsupported(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn var(values: &[f32]) -> Var {
        Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn formulas() {
        let (x, y, z) = (var(&[1.0, 2.0]), var(&[3.0, -4.0]), var(&[4.0, 16.0]));
        blend(&x, &y, 0.5, 0.25).unwrap();
        assert_eq!(x.to_vec1::<f32>().unwrap(), [1.25, 0.0]);
        blend_square(&x, &y, 1.0, 0.5).unwrap();
        assert_eq!(x.to_vec1::<f32>().unwrap(), [5.75, 8.0]);
        descend(&x, [&y, &z], 2.0, 3.0, 0.5, 0.5).unwrap();
        assert_eq!(x.to_vec1::<f32>().unwrap(), [11.5 - 9.0 / 4.5, 16.0 + 12.0 / 8.5]);
    }

    #[test]
    fn a_transposed_operand_is_refused_not_misread() {
        let x =
            Var::from_tensor(&Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        let y = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu).unwrap().t().unwrap();
        assert!(blend(&x, &y, 1.0, 1.0).is_err());
    }
}
