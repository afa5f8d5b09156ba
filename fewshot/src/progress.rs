//! Telling a caller how far a fit is, and letting the caller end it.

use std::ops::ControlFlow;

use crate::Error;

/// Is told the share of the work that is done, 0 to 1, some hundred times; breaking ends the fit with [`Error::Cancelled`].
pub type Progress<'a> = &'a mut dyn FnMut(f64) -> ControlFlow<()>;

/// Reports, and turns a break into the error.
pub(crate) fn report(progress: Progress<'_>, share: f64) -> Result<(), Error> {
    match progress(share) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

/// A part of a longer work, from one share of it to another.
pub(crate) fn part(progress: Progress<'_>, from: f64, to: f64) -> impl FnMut(f64) -> ControlFlow<()> {
    move |share| progress(from + share * (to - from))
}
