//! Changes of tensors in place.
//!
//! A step changes every parameter, two moments of it and its moving average. Composing that of tensor operations costs two
//! dozen passes over fresh memory per parameter; here it is one pass, on every core.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var, WithDType};
use rayon::prelude::*;
use std::cell::RefCell;

/// Elements per task, and of one partial sum. A cut between elements changes no result.
const SPAN: usize = 1 << 14;

/// `x ← a·x + b·y`.
pub(super) fn blend(x: &Var, y: &Tensor, a: f64, b: f64) -> Result<()> {
    x.set(&((x.as_tensor().detach() * a)? + (y * b)?)?)
}

/// AdamW's numbers at one step, as the update of an element needs them.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdamW {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    /// What is left of a value after weight decay.
    pub(super) keep: f64,
    /// Learning rate over the first moment's bias correction.
    pub(super) rate: f64,
    /// Square root of the second moment's bias correction.
    pub(super) root: f64,
    /// Factor of the gradient.
    pub(super) clip: f64,
    /// Of the moving average.
    pub(super) momentum: f64,
}

/// A parameter, its moments, and the moving average of it where there is one: f32 or f64 tensors of one shape on the CPU.
pub(super) struct Updated<'a> {
    pub(super) value: &'a Var,
    pub(super) moments: [&'a Var; 2],
    pub(super) average: Option<&'a Var>,
}

impl Updated<'_> {
    /// One step down `gradient`, and of the moving average after it.
    pub(super) fn step(&self, gradient: &Tensor, numbers: &AdamW) -> Result<()> {
        let (gradient, layout) = gradient.storage_and_layout();
        let (candle_core::Storage::Cpu(gradient), Some((start, end))) =
            (&*gradient, layout.contiguous_offsets())
        else {
            candle_core::bail!("a gradient on the CPU must be a contiguous CPU tensor");
        };
        let [first, second] = self.moments;
        with_elements(self.value, &mut |value| {
            with_elements(first, &mut |first| {
                with_elements(second, &mut |second| {
                    let mut run =
                        |average: Option<Elements<'_>>| match (&mut *value, &mut *first, &mut *second) {
                            (Elements::F32(value), Elements::F32(first), Elements::F32(second)) => {
                                let average = average.map(Elements::into_f32).transpose()?;
                                let gradient = &gradient.as_slice::<f32>()?[start..end];
                                descend([value, first, second], average, gradient, numbers)
                            }
                            (Elements::F64(value), Elements::F64(first), Elements::F64(second)) => {
                                let average = average.map(Elements::into_f64).transpose()?;
                                let gradient = &gradient.as_slice::<f64>()?[start..end];
                                descend([value, first, second], average, gradient, numbers)
                            }
                            _ => mixed(),
                        };
                    match self.average {
                        Some(average) => with_elements(average, &mut |average| run(Some(average.reborrow()))),
                        None => run(None),
                    }
                })
            })
        })
    }
}

fn descend<T: WithDType>(
    [value, first, second]: [&mut [T]; 3],
    average: Option<&mut [T]>,
    gradient: &[T],
    numbers: &AdamW,
) -> Result<()> {
    if [value.len(), first.len(), second.len()].iter().any(|&length| length != gradient.len())
        || average.as_ref().is_some_and(|average| average.len() != gradient.len())
    {
        candle_core::bail!("a parameter, its moments, its average and its gradient must be of one size");
    }
    let parts = (
        value.par_chunks_mut(SPAN),
        first.par_chunks_mut(SPAN),
        second.par_chunks_mut(SPAN),
        gradient.par_chunks(SPAN),
    );
    match average {
        Some(average) => parts.into_par_iter().zip(average.par_chunks_mut(SPAN)).for_each(
            |((value, first, second, gradient), average)| {
                step_part([value, first, second], gradient, numbers);
                for (average, value) in average.iter_mut().zip(value) {
                    let (momentum, value) = (numbers.momentum, value.to_f64());
                    *average = T::from_f64(momentum * average.to_f64() + (1.0 - momentum) * value);
                }
            },
        ),
        None => parts.into_par_iter().for_each(|(value, first, second, gradient)| {
            step_part([value, first, second], gradient, numbers);
        }),
    }
    Ok(())
}

/// Arithmetic in f64, rounded once per stored number.
fn step_part<T: WithDType>([value, first, second]: [&mut [T]; 3], gradient: &[T], numbers: &AdamW) {
    let AdamW { beta1, beta2, eps, keep, rate, root, clip, .. } = *numbers;
    for (((value, first), second), gradient) in value.iter_mut().zip(first).zip(second).zip(gradient) {
        let gradient = gradient.to_f64() * clip;
        *first = T::from_f64(beta1 * first.to_f64() + (1.0 - beta1) * gradient);
        *second = T::from_f64(beta2 * second.to_f64() + (1.0 - beta2) * gradient * gradient);
        let change = rate * first.to_f64() / (second.to_f64().sqrt() / root + eps);
        *value = T::from_f64(keep * value.to_f64() - change);
    }
}

/// The sum of the squares of a contiguous CPU tensor's elements, in f64 and in a fixed order.
pub(super) fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    fn of<T: WithDType>(values: &[T]) -> f64 {
        let square = |values: &[T]| values.iter().map(|value| value.to_f64() * value.to_f64()).sum::<f64>();
        values.par_chunks(SPAN).map(square).collect::<Vec<_>>().into_iter().sum()
    }
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(of(&values[start..end]))
        }
        (candle_core::Storage::Cpu(CpuStorage::F64(values)), Some((start, end))) => {
            Ok(of(&values[start..end]))
        }
        _ => mixed(),
    }
}

fn mixed<T>() -> Result<T> {
    candle_core::bail!("parameters and gradients must all be contiguous f32 or all f64 tensors")
}

/// Elements of a variable, to be changed.
enum Elements<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
}

impl<'a> Elements<'a> {
    fn reborrow(&mut self) -> Elements<'_> {
        match self {
            Self::F32(values) => Elements::F32(values),
            Self::F64(values) => Elements::F64(values),
        }
    }

    fn into_f32(self) -> Result<&'a mut [f32]> {
        if let Self::F32(values) = self { Ok(values) } else { mixed() }
    }

    fn into_f64(self) -> Result<&'a mut [f64]> {
        if let Self::F64(values) = self { Ok(values) } else { mixed() }
    }
}

/// Runs `body` on a CPU variable's elements.
fn with_elements(variable: &Var, body: &mut Body<'_>) -> Result<()> {
    variable.inplace_op1(&Visit(RefCell::new(body)))
}

/// candle hands out elements to be changed only to operations.
struct Visit<'a, 'b>(RefCell<&'a mut Body<'b>>);

type Body<'a> = dyn FnMut(&mut Elements<'_>) -> Result<()> + 'a;

impl InplaceOp1 for Visit<'_, '_> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(candle_core::Error::RequiresContiguous { op: "update" });
        };
        let mut elements = if let CpuStorage::F32(values) = storage {
            Elements::F32(&mut values[start..end])
        } else if let CpuStorage::F64(values) = storage {
            Elements::F64(&mut values[start..end])
        } else {
            return mixed();
        };
        (self.0.borrow_mut())(&mut elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn var(values: &[f32]) -> Var {
        Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap()
    }

    const NUMBERS: AdamW = AdamW {
        beta1: 0.5,
        beta2: 0.75,
        eps: 0.5,
        keep: 2.0,
        rate: 3.0,
        root: 0.5,
        clip: 2.0,
        momentum: 0.25,
    };

    #[test]
    fn formulas() {
        let (value, first, second, average) =
            (var(&[1.0, 2.0]), var(&[0.0, 4.0]), var(&[0.0, 16.0]), var(&[8.0, -8.0]));
        let updated = Updated { value: &value, moments: [&first, &second], average: Some(&average) };
        let gradient = Tensor::new(&[4.0_f32, -1.0], &Device::Cpu).unwrap();
        updated.step(&gradient, &NUMBERS).unwrap();
        assert_eq!(first.to_vec1::<f32>().unwrap(), [4.0, 1.0]);
        assert_eq!(second.to_vec1::<f32>().unwrap(), [16.0, 13.0]);
        let expected =
            [2.0 - 12.0 / 8.5, 4.0 - 3.0 / (13.0_f64.sqrt() / 0.5 + 0.5)].map(|value| value as f32);
        assert_eq!(value.to_vec1::<f32>().unwrap(), expected);
        let expected = [8.0, -8.0].into_iter().zip(expected).map(|(old, new)| 0.25 * old + 0.75 * new);
        assert_eq!(average.to_vec1::<f32>().unwrap(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_refused_not_misread() {
        let zeros = |shape: (usize, usize), dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        let [value, first, second] =
            [0; 3].map(|_| Var::from_tensor(&zeros((2, 3), candle_core::DType::F32)).unwrap());
        let updated = Updated { value: &value, moments: [&first, &second], average: None };
        let single = candle_core::DType::F32;
        assert!(updated.step(&zeros((3, 2), single).t().unwrap(), &NUMBERS).is_err());
        assert!(updated.step(&zeros((2, 2), single), &NUMBERS).is_err());
        assert!(updated.step(&zeros((2, 3), candle_core::DType::F64), &NUMBERS).is_err());
        assert!(updated.step(&zeros((2, 3), single), &NUMBERS).is_ok());
    }

    #[test]
    fn squares_of_many_elements() {
        let ones = Tensor::full(2.0_f32, 3 * SPAN + 5, &Device::Cpu).unwrap();
        let expected = 4.0 * (3 * SPAN + 5) as f64;
        assert!((sum_of_squares(&ones).unwrap() - expected).abs() < 1e-9);
    }
}
