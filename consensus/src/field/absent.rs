//! What other processors have of this: nothing. The types have no values, so that callers need not ask for which processor they are
//! compiled.

use super::Ifma;
use crate::bls::{InvalidScalarAt, Scalar};
use crate::erasure::{ErasureError, Recovery};

/// Never made.
#[derive(Debug)]
pub(crate) enum RowExtender {}

impl RowExtender {
    pub(crate) fn extend(&mut self, _: &[[u8; 32]], _: &mut [[u8; 32]]) -> Result<(), InvalidScalarAt> {
        match *self {}
    }
}

impl Ifma {
    pub(crate) fn row_extender(self, _: usize) -> Option<RowExtender> {
        None
    }

    pub(crate) fn transform(self, _: &mut [Scalar], _: bool) -> bool {
        false
    }

    pub(crate) fn to_odd_points(self, _: &mut [Scalar]) -> bool {
        false
    }

    pub(crate) fn derive_times_x(self, _: &mut [Scalar]) -> bool {
        false
    }

    pub(crate) fn extend_columns(self, _: &[&[[u8; 32]]], _: &mut [&mut [[u8; 32]]]) {
        unreachable!("no such level here")
    }

    pub(crate) fn combine(self, _: &[u128], _: &[&[[u8; 32]]], _: &mut [Scalar]) {
        unreachable!("no such level here")
    }

    pub(crate) fn vanishing_values(self, _: &[Scalar]) -> Option<Vec<Scalar>> {
        None
    }

    pub(crate) fn recover_columns(
        self,
        _: &Recovery,
        _: &[Option<&[[u8; 32]]>],
        _: &[usize],
        _: &mut [&mut [[u8; 32]]],
    ) -> Result<(), ErasureError> {
        unreachable!("no such level here")
    }
}
