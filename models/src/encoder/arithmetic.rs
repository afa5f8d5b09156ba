//! Which type of arithmetic an encoder computes in.

use super::execution::Execution;
use crate::Error;

/// Type of the arithmetic that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtypeChoice {
    /// The fastest whose vectors stay what they are (see [`super::Agreement`]): bf16 on CUDA devices; where a CPU multiplies
    /// bytes faster than floats int8, or int8 with the most sensitive maps in f32; otherwise f32.
    Auto,
    /// Floats.
    F32,
    /// Floats whose products keep 10 bits of the fraction; on CUDA devices.
    Tf32,
    /// Half precision, whatever the vectors turn into; on CUDA devices.
    F16,
    /// bfloat16, whatever the vectors turn into; on CUDA devices.
    Bf16,
    /// Bytes, whatever the vectors turn into; on the CPU.
    Int8,
}

impl std::str::FromStr for DtypeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "auto" => Self::Auto,
            "f32" => Self::F32,
            "tf32" => Self::Tf32,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "int8" => Self::Int8,
            other => {
                return Err(Error::Input(format!(
                    "`{other}` is no type of arithmetic here; take auto, f32, tf32, f16, bf16 or int8"
                )));
            }
        })
    }
}

/// Type of the arithmetic of a loaded encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    F32,
    Tf32,
    F16,
    Bf16,
    Int8,
    /// Bytes, but floats in the maps that mind most.
    Int8AndF32,
}

impl Arithmetic {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int8AndF32 => "int8+f32",
        }
    }
}

/// What runs a network that is loaded in f32, and so which other types it can be loaded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    OnCpu {
        bytes_are_fast: bool,
    },
    #[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code, reason = "a build without CUDA"))]
    OnCuda,
    /// As tensors, which are f32 anywhere.
    AsTensors,
}

/// What to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    F32,
    /// The first of these whose vectors agree with f32's, else f32.
    FirstThatAgrees(&'static [Arithmetic]),
    This(Arithmetic),
}

impl DtypeChoice {
    /// The arithmetic of a network that so runs; an error names the remedy.
    pub(super) fn of(self, runs: Runs) -> Result<Chosen, Error> {
        let wanted = match self {
            Self::Auto => {
                return Ok(match runs {
                    Runs::OnCuda => Chosen::FirstThatAgrees(&[Arithmetic::Bf16]),
                    Runs::OnCpu { bytes_are_fast: true } => {
                        Chosen::FirstThatAgrees(&[Arithmetic::Int8, Arithmetic::Int8AndF32])
                    }
                    Runs::OnCpu { bytes_are_fast: false } | Runs::AsTensors => Chosen::F32,
                });
            }
            Self::F32 => return Ok(Chosen::F32),
            Self::Tf32 => Arithmetic::Tf32,
            Self::F16 => Arithmetic::F16,
            Self::Bf16 => Arithmetic::Bf16,
            Self::Int8 => Arithmetic::Int8,
        };
        let name = wanted.name();
        let remedy = match (runs, wanted) {
            (Runs::OnCpu { .. }, Arithmetic::Int8) => return Ok(Chosen::This(wanted)),
            (Runs::OnCuda, Arithmetic::Tf32 | Arithmetic::F16 | Arithmetic::Bf16) => {
                return Ok(Chosen::This(wanted));
            }
            (Runs::OnCpu { .. }, _) => format!("{name} is for CUDA devices; on the CPU use int8 or f32"),
            (Runs::OnCuda, _) => {
                format!("{name} is for the CPU; on a CUDA device use bf16, f16, tf32 or f32")
            }
            (Runs::AsTensors, _) => format!(
                "{name} is for models without relative position biases, and on CUDA devices with heads of 32 or 64; use f32"
            ),
        };
        Err(Error::Input(remedy))
    }
}

impl Execution {
    pub(super) fn runs(&self) -> Runs {
        match self {
            Self::Packed(_) => Runs::OnCpu { bytes_are_fast: crate::vit::cpu::CpuVit::bytes_are_fast() },
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => Runs::OnCuda,
            Self::Tensors(..) => Runs::AsTensors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Runs = Runs::OnCpu { bytes_are_fast: true };

    #[test]
    fn auto_is_the_fastest_that_may_agree() {
        let of = |runs| DtypeChoice::Auto.of(runs).unwrap();
        assert_eq!(of(CPU), Chosen::FirstThatAgrees(&[Arithmetic::Int8, Arithmetic::Int8AndF32]));
        assert_eq!(of(Runs::OnCpu { bytes_are_fast: false }), Chosen::F32);
        assert_eq!(of(Runs::OnCuda), Chosen::FirstThatAgrees(&[Arithmetic::Bf16]));
        assert_eq!(of(Runs::AsTensors), Chosen::F32);
    }

    #[test]
    fn what_a_device_lacks_is_an_error_that_names_what_it_has() {
        for (choice, runs, remedy) in [
            (DtypeChoice::Bf16, CPU, "bf16 is for CUDA devices; on the CPU use int8 or f32"),
            (DtypeChoice::Int8, Runs::OnCuda, "use bf16"),
            (DtypeChoice::Int8, Runs::AsTensors, "use f32"),
            (DtypeChoice::F16, Runs::AsTensors, "use f32"),
        ] {
            let error = choice.of(runs).unwrap_err();
            assert!(matches!(&error, Error::Input(text) if text.contains(remedy)), "{error}");
        }
        for name in ["f32", "tf32", "f16", "bf16", "int8"] {
            let choice: DtypeChoice = name.parse().unwrap();
            assert_eq!(format!("{choice:?}").to_lowercase(), name);
        }
        assert!("int4".parse::<DtypeChoice>().is_err());
        for runs in [CPU, Runs::OnCuda, Runs::AsTensors] {
            assert_eq!(DtypeChoice::F32.of(runs).unwrap(), Chosen::F32);
        }
        assert_eq!(DtypeChoice::Tf32.of(Runs::OnCuda).unwrap(), Chosen::This(Arithmetic::Tf32));
        assert_eq!(DtypeChoice::Int8.of(CPU).unwrap(), Chosen::This(Arithmetic::Int8));
    }
}
