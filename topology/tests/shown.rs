//! What people and scripts get to see.

#![cfg(feature = "hwloc")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use topology::{Machine, Plan, Request, detect, plan, show};

fn guide_host() -> (Machine, Plan) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/guide-host.xml");
    let machine = detect::from_xml(&path).unwrap();
    let plan = plan(&machine, &Request::default()).unwrap();
    (machine, plan)
}

#[test]
fn the_table_names_devices_links_and_reasons() {
    let (machine, plan) = guide_host();
    let table = show::table(&machine, &plan);
    println!("{table}");
    let line = |begin: &str| {
        let line = table.lines().find(|line| line.starts_with(begin));
        line.unwrap_or_else(|| panic!("{begin} in {table}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("GPU2 ")[1..8], ["SYS", "SYS", "X", "PHB", "SYS", "SYS", "PHB"]);
    assert_eq!(line("plot-server 2 ")[2..5], ["feeder", "1", "48"]);
    assert!(table.contains("2 packages, 2 NUMA nodes, 12 L3 caches, 96 cores, 192 CPUs"));
    assert!(plan.warnings.iter().all(|warning| table.contains(warning)));
}

#[test]
fn json_has_the_documented_shape() {
    let (_, plan) = guide_host();
    let json = serde_json::to_value(&plan).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["plan", "warnings"]);
    let server = &json["plan"][2];
    assert_eq!(keys(server), ["gpu", "instance", "role", "threads"]);
    assert_eq!((&server["role"], &server["instance"]), (&"plot-server".into(), &2.into()));
    let gpu = serde_json::json!({"pci_bus_id": "0000:41:00.0", "ordinal": 2, "numa_node": 1});
    assert_eq!(server["gpu"], gpu);
    let thread = &server["threads"][0];
    assert_eq!(keys(thread), ["kind", "name", "numa_node", "pus", "reason"]);
    assert_eq!((&thread["kind"], &thread["pus"]), (&"feeder".into(), &serde_json::json!([48])));
    let without = detect::from_description("core:2 pu:1").unwrap();
    let json = serde_json::to_value(topology::plan(&without, &Request::default()).unwrap()).unwrap();
    assert!(json["plan"][0]["gpu"].is_null());
}

#[test]
fn the_drawing_has_every_cpu_once_and_keeps_its_form() {
    let (mut machine, plan) = guide_host();
    machine.disks[0].name = "<script>\"&".into();
    let svg = show::svg(&machine, &plan);
    assert_eq!(svg.matches("<title>CPU ").count(), 192);
    assert!(svg.contains("CPU 48: plot-server 2: feeder"));
    assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;&quot;&amp;"));
    assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
}
