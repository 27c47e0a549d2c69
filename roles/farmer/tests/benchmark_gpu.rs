//! `autonomys-farmer benchmark gpu` as a process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn benchmark(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.env("RUST_LOG", "warn").env_remove("GPU_CONCURRENCY");
    command.args(["benchmark", "gpu"]).args(arguments).output().expect("the program starts")
}

#[test]
fn without_a_driver_there_is_one_line_and_an_error() {
    if gpu::device::cuda::driver_present() {
        println!("skipped: there is a driver here");
        return;
    }
    let output = benchmark(&["--json"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty() && text.contains("libcuda"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[cfg(feature = "kernel-shim")]
#[test]
fn the_shim_is_measured_and_called_so() {
    let tiny = ["--backend", "kernel-shim", "--sectors", "1", "--pieces", "1", "--sweep", "1", "--json"];
    let output = benchmark(&tiny);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["backend"], &report["best_concurrency"]), (&"shim".into(), &1.into()));
    assert!(report["card"].is_null() && report["floor_ms"].is_null());
    for (part, number) in [("sustained", "records_per_s"), ("stages", "sum_ms"), ("pcie", "up_gb_s")] {
        assert!(report[part][number].as_f64().unwrap() > 0.0, "{report}");
    }
    assert!(report["proof_table_ms"].as_f64().unwrap() > 0.0);
}

/// `scripts/gpu` of this repository.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/gpu").join(name)
}

#[test]
fn scripts_can_be_read() {
    for name in ["bundle", "check", "sweep"] {
        let output = Command::new("bash").arg("-n").arg(script(name)).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_check_without_a_gpu_says_so_and_leaves_nothing() {
    if gpu::device::cuda::driver_present() {
        println!("skipped: there is a driver here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(script("check"), folder.path().join("check")).unwrap();
    let binary = env!("CARGO_BIN_EXE_autonomys-farmer");
    std::os::unix::fs::symlink(binary, folder.path().join("autonomys-farmer")).unwrap();
    let output =
        Command::new("bash").arg(folder.path().join("check")).env("RUST_LOG", "warn").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("libcuda") && text.lines().count() == 1, "{text}");
    assert!(!folder.path().join("results").exists());
}
