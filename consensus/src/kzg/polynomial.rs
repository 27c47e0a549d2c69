//! Polynomials over the scalar field.

use crate::bls::Scalar;
use crate::fft::{InvalidWidth, ifft};

/// A polynomial by its coefficients, lowest first, without trailing zeros but with one coefficient at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polynomial {
    coefficients: Vec<Scalar>,
}

impl Polynomial {
    /// The polynomial with these coefficients, lowest first.
    pub fn from_coefficients(mut coefficients: Vec<Scalar>) -> Self {
        while coefficients.last().is_some_and(|coefficient| coefficient.is_zero()) {
            coefficients.pop();
        }
        if coefficients.is_empty() {
            coefficients.push(Scalar::ZERO);
        }
        Self { coefficients }
    }

    /// The polynomial of degree below n with these n values at the powers of omega_n, in natural order.
    pub fn from_values(values: &[Scalar]) -> Result<Self, InvalidWidth> {
        let mut coefficients = values.to_vec();
        ifft(&mut coefficients)?;
        Ok(Self::from_coefficients(coefficients))
    }

    /// Coefficients, lowest first; never empty.
    pub fn coefficients(&self) -> &[Scalar] {
        &self.coefficients
    }

    /// The value at `x`.
    pub fn evaluate(&self, x: Scalar) -> Scalar {
        self.coefficients.iter().rev().fold(Scalar::ZERO, |sum, coefficient| sum * x + *coefficient)
    }

    /// The quotient (p(X) - p(x)) / (X - x), by synthetic division.
    pub(super) fn quotient(&self, x: Scalar) -> Self {
        let mut quotient = vec![Scalar::ZERO; self.coefficients.len() - 1];
        let mut carry = Scalar::ZERO;
        for (place, coefficient) in quotient.iter_mut().zip(&self.coefficients[1..]).rev() {
            carry = carry * x + *coefficient;
            *place = carry;
        }
        Self::from_coefficients(quotient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polynomial(coefficients: &[u64]) -> Polynomial {
        Polynomial::from_coefficients(coefficients.iter().map(|value| Scalar::from_u64(*value)).collect())
    }

    #[test]
    fn trailing_zeros_are_dropped() {
        assert_eq!(polynomial(&[]), polynomial(&[0]));
        assert_eq!(polynomial(&[0, 0]).coefficients(), [Scalar::ZERO]);
        assert_eq!(polynomial(&[1, 0, 2, 0, 0]).coefficients().len(), 3);
        assert_eq!(Polynomial::from_values(&[Scalar::ONE; 8]).unwrap(), polynomial(&[1]));
        assert_eq!(Polynomial::from_values(&[]), Err(InvalidWidth { width: 0 }));
    }

    #[test]
    fn value_and_quotient() {
        let p = polynomial(&[7, 3, 0, 2]);
        assert_eq!(p.evaluate(Scalar::from_u64(5)), Scalar::from_u64(7 + 15 + 250));
        // 2 X^3 + 3 X - 265 = (X - 5) (2 X^2 + 10 X + 53)
        assert_eq!(p.quotient(Scalar::from_u64(5)), polynomial(&[53, 10, 2]));
        assert_eq!(polynomial(&[9]).quotient(Scalar::from_u64(5)), polynomial(&[0]));
    }
}
