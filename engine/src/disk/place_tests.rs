use super::*;

#[test]
fn the_deepest_mount_point_is_the_one() {
    let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                  30 22 8:17 / /mnt/big\\040disk rw shared:1 - xfs /dev/sdb1 rw\n\
                  31 22 0:40 / /mnt rw - tmpfs tmpfs rw\n";
    let point = |path: &str| mount_point(mounts, Path::new(path));
    assert_eq!(point("/mnt/big disk/farm").unwrap(), Path::new("/mnt/big disk"));
    assert_eq!(point("/mnt/bigger").unwrap(), Path::new("/mnt"));
    assert_eq!(point("/var/farm").unwrap(), Path::new("/"));
    assert_eq!(mount_point("", Path::new("/")), None);
}

#[test]
fn a_device_is_gone_when_it_is_not_listed_or_has_no_size() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("8:1");
    assert!(is_gone(&device));
    fs::create_dir(&device).unwrap();
    assert!(!is_gone(&device), "no size is told: nothing is known");
    for (size, gone) in [("0\n", true), ("2048\n", false)] {
        fs::write(device.join("size"), size).unwrap();
        assert_eq!(is_gone(&device), gone);
    }
}

#[test]
fn a_place_that_is_not_there_yet_has_the_device_of_what_it_will_lie_in() {
    let dir = tempfile::tempdir().unwrap();
    let (here, later) = (Place::of(dir.path()), Place::of(&dir.path().join("farms/one")));
    assert_eq!(here.device, later.device);
    assert!(!here.device.is_empty() && !here.mount.as_os_str().is_empty());
    assert!(!here.is_gone()());
    let text = later.to_string();
    assert!(text.contains(&here.device) && text.contains("farms/one"), "{text}");
}

#[test]
fn a_change_says_what_was_seen() {
    let seen = |why| words(&why);
    assert!(seen(Why::Silent { silent_ms: 5100, in_flight: 7 }).contains("5.1 s while 7 transfers"));
    let fails = seen(Why::Fails { failed: 12, of: 16, errno: libc::EIO });
    assert!(fails.contains("12 of its last 16") && fails.contains("nput/output error"), "{fails}");
    assert!(seen(Why::Lost { errno: Some(libc::ENODEV) }).contains("No such device"));
}
