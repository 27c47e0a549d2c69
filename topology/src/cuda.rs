//! Which ordinal CUDA gives a GPU: the documented rules of `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`, without CUDA.
//!
//! - `CUDA_DEVICE_ORDER=PCI_BUS_ID` orders by bus id. The default, `FASTEST_FIRST`, is a heuristic that is not documented: among GPUs
//!   of one model it is taken to be the order of bus ids, and among different ones it is not known.
//! - `CUDA_VISIBLE_DEVICES`: absent, all are visible; empty, none. Else a list of indices in that order, or of (beginnings of) UUIDs;
//!   the ordinals count along the list. At an entry that names no GPU the list ends.

use crate::machine::{Cuda, Gpu};

/// What of the environment decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CudaEnvironment {
    /// `CUDA_VISIBLE_DEVICES`.
    pub visible_devices: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub device_order: Option<String>,
}

impl CudaEnvironment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            visible_devices: variable("CUDA_VISIBLE_DEVICES"),
            device_order: variable("CUDA_DEVICE_ORDER"),
        }
    }
}

/// What an entry of the list says.
enum Named {
    Gpu(usize),
    Nothing,
    /// It may name a GPU, but which cannot be told.
    Unclear(&'static str),
}

/// Sets what CUDA calls each of `gpus`, which are in the order of their bus ids. What was unclear is returned, for people.
pub(crate) fn set_ordinals(gpus: &mut [Gpu], environment: &CudaEnvironment) -> Option<String> {
    let by_bus_id = environment.device_order.as_deref() == Some("PCI_BUS_ID");
    let one_model = gpus.windows(2).all(|pair| pair[0].model == pair[1].model);
    let order_is_known = by_bus_id || one_model;
    let listed = match environment.visible_devices.as_deref() {
        None if order_is_known => Ok((0..gpus.len()).collect()),
        None => Err("CUDA's order of different GPUs is not documented; set CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        Some(list) => visible(gpus, list, order_is_known),
    };
    match listed {
        Ok(visible) => {
            gpus.iter_mut().for_each(|gpu| gpu.cuda = Cuda::Hidden);
            for (ordinal, gpu) in (0..).zip(visible) {
                gpus[gpu].cuda = Cuda::Ordinal(ordinal);
            }
            None
        }
        Err(why) => {
            gpus.iter_mut().for_each(|gpu| gpu.cuda = Cuda::Unknown);
            Some(format!("it is not certain which ordinals the GPUs have: {why}"))
        }
    }
}

/// The GPUs of a list, in its order.
fn visible(gpus: &[Gpu], list: &str, order_is_known: bool) -> Result<Vec<usize>, &'static str> {
    let mut visible = Vec::new();
    for entry in list.split(',') {
        match named(gpus, entry.trim(), order_is_known) {
            Named::Gpu(gpu) if !visible.contains(&gpu) => visible.push(gpu),
            // What CUDA does about a GPU that is named twice is not documented; most versions take none.
            Named::Gpu(_) => return Err("CUDA_VISIBLE_DEVICES names one twice"),
            Named::Nothing => break,
            Named::Unclear(why) => return Err(why),
        }
    }
    Ok(visible)
}

fn named(gpus: &[Gpu], entry: &str, order_is_known: bool) -> Named {
    if let Ok(index) = entry.parse::<i64>() {
        return match usize::try_from(index).ok().filter(|&index| index < gpus.len()) {
            Some(index) if order_is_known || gpus.len() == 1 => Named::Gpu(index),
            Some(_) => Named::Unclear(
                "CUDA_VISIBLE_DEVICES counts different GPUs in an order that is not documented; set CUDA_DEVICE_ORDER=PCI_BUS_ID",
            ),
            None => Named::Nothing,
        };
    }
    if entry.starts_with("MIG-") {
        return Named::Unclear("CUDA_VISIBLE_DEVICES names a part of a GPU (MIG)");
    }
    if !entry.starts_with("GPU-") {
        return Named::Nothing;
    }
    if gpus.iter().any(|gpu| gpu.uuid.is_none()) {
        return Named::Unclear("CUDA_VISIBLE_DEVICES names UUIDs, which the driver does not tell here");
    }
    let is_meant = |gpu: &Gpu| gpu.uuid.as_deref().is_some_and(|uuid| uuid.starts_with(entry));
    let mut meant = gpus.iter().enumerate().filter(|(_, gpu)| is_meant(gpu)).map(|(index, _)| index);
    match (meant.next(), meant.next()) {
        (Some(index), None) => Named::Gpu(index),
        _ => Named::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Pci;
    use Cuda::{Hidden, Ordinal, Unknown};

    const UUIDS: [&str; 4] = ["GPU-8932f937", "GPU-8932aaaa", "GPU-11112222", "GPU-33334444"];

    fn gpus(models: [&str; 4]) -> Vec<Gpu> {
        let gpu = |(index, model): (usize, &str)| Gpu {
            pci: Pci { bus_id: format!("0000:{index:02x}:00.0"), ..Pci::default() },
            model: model.into(),
            uuid: Some(UUIDS[index].into()),
            cuda: Cuda::Unknown,
        };
        models.into_iter().enumerate().map(gpu).collect()
    }

    fn ordinals(models: [&str; 4], visible: Option<&str>, order: Option<&str>) -> (Vec<Cuda>, bool) {
        let mut gpus = gpus(models);
        let environment =
            CudaEnvironment { visible_devices: visible.map(Into::into), device_order: order.map(Into::into) };
        let doubt = set_ordinals(&mut gpus, &environment);
        (gpus.iter().map(|gpu| gpu.cuda).collect(), doubt.is_some())
    }

    #[test]
    fn documented_lists() {
        for (list, expected) in [
            (None, [Ordinal(0), Ordinal(1), Ordinal(2), Ordinal(3)]),
            (Some(""), [Hidden; 4]),
            (Some("2"), [Hidden, Hidden, Ordinal(0), Hidden]),
            (Some("2,1"), [Hidden, Ordinal(1), Ordinal(0), Hidden]),
            (Some("0,2,-1,1"), [Ordinal(0), Hidden, Ordinal(1), Hidden]),
            (Some("0, 9, 1"), [Ordinal(0), Hidden, Hidden, Hidden]),
            (Some("GPU-8932f"), [Ordinal(0), Hidden, Hidden, Hidden]),
            (Some("GPU-8932,0"), [Hidden; 4]),
            (Some("GPU-33334444,GPU-1"), [Hidden, Hidden, Ordinal(1), Ordinal(0)]),
            (Some("NoDevFiles"), [Hidden; 4]),
        ] {
            assert_eq!(ordinals(["H200"; 4], list, None), (expected.into(), false), "{list:?}");
        }
    }

    #[test]
    fn different_gpus_have_an_order_only_by_bus_id() {
        let mixed = ["H200", "L4", "L4", "L4"];
        assert_eq!(ordinals(mixed, None, None), (vec![Unknown; 4], true));
        assert_eq!(ordinals(mixed, Some("1"), Some("FASTEST_FIRST")), (vec![Unknown; 4], true));
        let by_bus_id = ordinals(mixed, Some("1"), Some("PCI_BUS_ID"));
        assert_eq!(by_bus_id, (vec![Hidden, Ordinal(0), Hidden, Hidden], false));
        let by_uuid = ordinals(mixed, Some("GPU-33"), None);
        assert_eq!(by_uuid, (vec![Hidden, Hidden, Hidden, Ordinal(0)], false));
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        for list in ["MIG-GPU-8932f937/1/2", "0,0"] {
            assert_eq!(ordinals(["H200"; 4], Some(list), None), (vec![Unknown; 4], true), "{list}");
        }
    }
}
