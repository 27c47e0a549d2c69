//! Compiles the kernels for the CPU where the feature `kernel-shim` asks for it; else there is nothing to do.

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    #[cfg(feature = "kernel-shim")]
    compile_shim();
}

/// A C++17 compiler is all that this needs. Kernels at opt-level 0 would take minutes a table, so it is 2 in every profile.
#[cfg(feature = "kernel-shim")]
fn compile_shim() {
    let files = std::fs::read_dir("kernels/shim").expect("kernels/shim is part of this crate");
    let paths = files.map(|file| file.expect("kernels/shim can be listed").path());
    let mut sources: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "cpp")).collect();
    sources.sort();
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).define("FARMER_SHIM", None);
    // `unroll` is for the other compiler; shifts are written as CUDA's programmers do.
    build.flag_if_supported("-Wno-unknown-pragmas").flag_if_supported("-Wno-parentheses");
    build.flag_if_supported("-pthread").files(sources).compile("kernel_shim");
}
