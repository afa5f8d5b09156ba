//! Checks that stored heads pass on their way in: what is read may be of another version, cut off or edited.

use crate::{ClassKey, Error};

/// The refusal of a stored head.
pub(super) fn refused(reason: impl Into<String>) -> Error {
    Error::StoredHead { reason: reason.into() }
}

/// Fails unless the stored form is the one that this version reads.
pub(super) fn check_format(found: u32, read: u32) -> Result<(), Error> {
    if found == read {
        Ok(())
    } else {
        Err(refused(format!("its format is {found}, this version reads {read}")))
    }
}

/// Fails unless the classes ascend.
pub(super) fn check_classes(classes: &[ClassKey]) -> Result<(), Error> {
    if classes.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(refused("its classes are not in ascending order"))
    }
}

/// Fails unless every class has as many numbers as there are dimensions, and all of them are finite.
pub(super) fn check_rows<T: Copy + Into<f64>>(
    name: &str,
    numbers: &[T],
    classes: usize,
    dimensions: usize,
) -> Result<(), Error> {
    if dimensions == 0 || classes.checked_mul(dimensions) != Some(numbers.len()) {
        let len = numbers.len();
        return Err(refused(format!(
            "{len} {name} do not fill {classes} classes of {dimensions} dimensions"
        )));
    }
    if numbers.iter().any(|&number| !number.into().is_finite()) {
        return Err(refused(format!("one of its {name} is not finite")));
    }
    Ok(())
}
