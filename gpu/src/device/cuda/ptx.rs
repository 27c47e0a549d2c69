//! The kernels as PTX, made from `gpu/kernels` by `make kernels` (docs/GPU.md). A card's driver compiles it for the card.
//!
//! Owns: which text is for which card. Never: loading it.

/// PTX 8.0 for Volta and everything after it: drivers since 525.60.13 read it.
const SM_70: &str = include_str!("../../../kernels/ptx/farmer_sm_70.ptx");

/// The kernels for a card of this compute capability, (7, 5) being Turing; none if it is older than Volta.
pub fn for_compute_capability(capability: (u32, u32)) -> Option<&'static str> {
    (capability >= (7, 0)).then_some(SM_70)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::Kernel;

    #[test]
    fn cards_since_volta_have_kernels() {
        assert_eq!(for_compute_capability((6, 1)), None);
        for capability in [(7, 0), (7, 5), (8, 6), (9, 0), (12, 0)] {
            assert!(for_compute_capability(capability).is_some());
        }
    }

    #[test]
    fn the_text_is_what_old_drivers_read_and_has_every_kernel() {
        assert!(SM_70.contains("\n.version 8.0\n.target sm_70\n"));
        assert!(SM_70.contains("layout["));
        assert!(!SM_70.contains('\0'));
        for kernel in Kernel::ALL {
            assert!(SM_70.contains(&format!(".visible .entry {}(", kernel.name())), "{kernel:?}");
        }
    }
}
