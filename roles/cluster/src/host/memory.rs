//! What became of a member's buffers, told when it starts: each line is one that an operator can act on.

use std::path::Path;

use engine::pool::nodes::{huge_page_bytes, prefer_node, slabs_by_node};
use engine::pool::{Pool, SLAB_BYTES};
use engine::threads::CoreSet;

const MIB: u64 = 1 << 20;

/// Has the pool's memory come from the node of `cores`, where the first executor stands, which is about to register it.
pub(super) fn place(pool: &Pool, cores: Option<&CoreSet>) {
    if let Some(node) = wanted_node(cores)
        && let Err(error) = prefer_node(pool, node)
    {
        tracing::debug!("buffers come from the node of whoever uses them first: {error}");
    }
}

/// Tells of the pool, which executors have registered with their rings, the first of them on `cores`.
pub(super) fn tell(pool: &Pool, cores: Option<&CoreSet>) {
    let bytes = pool.stats().total as u64 * SLAB_BYTES as u64;
    tracing::info!("buffers: {} MiB, registered with io_uring", bytes / MIB);
    tell_pages(pool, bytes);
    tell_nodes(pool, cores);
}

fn tell_pages(pool: &Pool, bytes: u64) {
    match huge_page_bytes(pool) {
        Ok(huge) if huge == bytes => tracing::info!("buffers: all on huge pages"),
        Ok(huge) => tracing::warn!(
            "buffers: {} of {} MiB are on huge pages: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or free memory is in pieces \
             (echo 1 > /proc/sys/vm/compact_memory before the start)",
            huge / MIB,
            bytes / MIB
        ),
        Err(error) => tracing::info!("buffers: nobody tells whether they are on huge pages: {error}"),
    }
}

fn tell_nodes(pool: &Pool, cores: Option<&CoreSet>) {
    let nodes = match slabs_by_node(pool) {
        Ok(nodes) => nodes,
        Err(error) => return tracing::info!("buffers: nobody tells which NUMA node they are on: {error}"),
    };
    let wanted = wanted_node(cores);
    let far: usize = nodes
        .iter()
        .filter(|(node, _)| wanted.is_some_and(|wanted| wanted != **node))
        .map(|(_, slabs)| slabs)
        .sum();
    let listed: Vec<_> = nodes
        .iter()
        .map(|(node, slabs)| format!("{} MiB on node {node}", (slabs * SLAB_BYTES) as u64 / MIB))
        .collect();
    let listed = listed.join(", ");
    match (far, wanted) {
        (1.., Some(node)) => tracing::warn!(
            "buffers: {listed}, where node {node} was wanted: has it free memory (numactl --hardware), and is no memory policy set?"
        ),
        _ => tracing::info!("buffers: {listed}"),
    }
}

fn wanted_node(cores: Option<&CoreSet>) -> Option<u32> {
    cores.and_then(|cores| cores.cores().first().and_then(|&cpu| node_of(cpu)))
}

/// The NUMA node of a CPU, if the system has such.
fn node_of(cpu: usize) -> Option<u32> {
    let folder = Path::new("/sys/devices/system/cpu").join(format!("cpu{cpu}"));
    let names = folder.read_dir().ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("node")?.parse().ok()).next()
}
