use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_new_farm_has_the_files_of_the_network() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/farm");
        let farm = open_clean(&disk, &pool, &path, &config(2, 5)).await;
        let (info, key) = (farm.info().clone(), farm.identity().public_key());
        let json = fs::read_to_string(path.join(INFO_FILE)).unwrap();
        assert_eq!(
            json,
            format!(
                r#"{{"v0":{{"id":"{}","genesisHash":"{}","publicKey":"{}","piecesInSector":2,"allocatedSpace":{}}}}}"#,
                info.id,
                "09".repeat(32),
                hex::encode(key),
                3_058_469 + (4096u64 + 5 * (2 * 1_056_896 + 64 + 131_116)).next_multiple_of(100),
            )
        );
        let size = |name: &str| fs::metadata(path.join(name)).unwrap().len();
        assert_eq!(size(PLOT_FILE), (5u64 * (2 * 1_056_896 + 64)).next_multiple_of(4096));
        assert_eq!(size(METADATA_FILE), (1_048_576u64 + 5 * 131_116).next_multiple_of(4096));
        assert!(fs::read(path.join(METADATA_FILE)).unwrap().iter().all(|&byte| byte == 0));
        assert_eq!(size(IDENTITY_FILE), 33);
        assert_eq!(fs::metadata(path.join(IDENTITY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 5, "nothing else is left");
        assert_eq!(farm.lock_path(), path.join(INFO_FILE));
        drop(farm);
        // Another size in the configuration of new farms changes nothing about this one's sectors.
        let again =
            open_clean(&disk, &pool, &path, &FarmConfig { pieces_in_sector: 7, ..config(2, 5) }).await;
        assert_eq!((again.info(), again.identity().public_key()), (&info, key));
        assert_eq!(again.statuses(), [SectorStatus::NotPlotted; 5]);
    });
}

#[test]
fn neighbours_written_at_once_are_read_back() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(2, 3)).await;
        let made: Vec<_> = (0..3).map(|sector| std::rc::Rc::new(Made::new(2, sector, 7, 1))).collect();
        let tasks: Vec<_> = made
            .iter()
            .rev()
            .map(|made| {
                let (made, farm) = (made.clone(), farm.clone());
                task::spawn_local(async move { made.plot(&farm).await })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert_eq!(farm.count(), 3);
        for made in &made {
            made.check_in(&farm).await;
            check_reads(&farm, &pool, made).await;
        }
        drop(farm);
        let farm = open_clean(&disk, &pool, dir.path(), &config(2, 3)).await;
        let metadata = fs::read(dir.path().join(METADATA_FILE)).unwrap();
        assert_eq!(metadata[..3], [0, 3, 0]);
        for made in &made {
            let at = 1_048_576 + usize::from(made.metadata.sector_index) * 131_116;
            assert_eq!(metadata[at..at + 131_116], made.metadata.encode());
            made.check_in(&farm).await;
        }
        check_reads(&farm, &pool, &made[1]).await;
    });
}

async fn check_reads(farm: &Farm, pool: &Pool, made: &Made) {
    let sector = made.metadata.sector_index;
    assert_eq!(farm.read_contents_map(Class::Serving, sector).await.unwrap(), made.map);
    for (offset, record) in (0..).zip(&made.records) {
        let read = farm.read_record(Class::ProofRead, sector, offset).await.unwrap();
        assert!(read.chunks.as_chunks::<32>().0 == record, "record {offset}");
        assert_eq!((read.chunks.len(), read.chunks.phase()), (1 << 20, 0));
        assert_eq!(read.bitfield, made.map.records()[usize::from(offset)]);
        let metadata = farm.read_record_metadata(Class::Serving, sector, offset).await.unwrap();
        assert_eq!(metadata, made.record_metadata[usize::from(offset)]);
    }
    let start = consensus::constants::contents_map_size(2);
    let chunks = made.bytes[start..start + (2 << 20)].as_chunks::<32>().0;
    let mut buf = pool.try_acquire().unwrap().narrow(..s_bucket_buf_bytes(2));
    for s_bucket in (0..=u16::MAX).step_by(509).chain([u16::MAX]) {
        let first = made.metadata.chunks_before(s_bucket) as usize;
        let size = usize::from(made.metadata.s_bucket_sizes[usize::from(s_bucket)]);
        let read = farm.read_s_bucket(sector, s_bucket, buf).await.unwrap();
        assert_eq!(read.chunks(), &chunks[first..first + size], "s-bucket {s_bucket}");
        buf = read.into_buf();
    }
    let error = farm.read_record(Class::ProofRead, sector, 2).await.unwrap_err();
    assert!(matches!(error, SectorError::NoSuchRecord { piece_offset: 2, .. }), "{error}");
}

#[test]
fn a_sector_being_replaced_cannot_be_read_and_is_marked_first() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 3)).await;
        let (old, new) = (Made::new(1, 1, 5, 1), Made::new(1, 1, 9, 2));
        old.plot(&farm).await;
        assert_eq!(farm.count(), 2);
        let plotted = SectorStatus::Plotted { history_size: 5 };
        assert_eq!(farm.statuses(), [SectorStatus::Expired, plotted, SectorStatus::NotPlotted]);

        let reader = farm.clone();
        let read = task::spawn_local(async move { reader.read_record(Class::ProofRead, 1, 0).await });
        let writer = farm.write_sector(1).await.unwrap();
        assert!(matches!(read.await.unwrap_err(), SectorError::BeingWritten { sector: 1 }));
        assert_eq!(farm.status(1), SectorStatus::BeingWritten);
        assert!(matches!(farm.write_sector(1).await, Err(SectorError::BeingWritten { sector: 1 })));
        assert!(matches!(farm.write_sector(3).await, Err(SectorError::NoSuchSector { sector: 3, .. })));
        drop(writer);
        assert_eq!(farm.status(1), SectorStatus::Expired);
        assert!(matches!(
            farm.read_contents_map(Class::Scrub, 1).await,
            Err(SectorError::NotPlotted { sector: 1 })
        ));
        drop(farm);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 3)).await;
        assert_eq!(farm.status(1), SectorStatus::Expired, "the mark is on disk");
        new.plot(&farm).await;
        new.check_in(&farm).await;
        assert_eq!(farm.count(), 2);
    });
}

#[test]
fn a_transfer_goes_on_after_a_restart() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made = Made::new(1, 0, 5, 1);
        {
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            let writer = farm.write_sector(0).await.unwrap();
            assert_eq!(writer.saved_progress(), None);
            for &range in &made.ranges(0)[..9] {
                writer.write(range.0 as u64, &made.slab(&pool, 0, range)).await.unwrap();
            }
            writer.save_progress(b"nine").await.unwrap();
        }
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        let writer = farm.write_sector(0).await.unwrap();
        assert_eq!(writer.saved_progress().as_deref(), Some(&b"nine"[..]));
        for &range in &made.ranges(0)[9..] {
            writer.write(range.0 as u64, &made.slab(&pool, 0, range)).await.unwrap();
        }
        writer.finish(&made.metadata, &made.checksum()).await.unwrap();
        made.check_in(&farm).await;
        assert_eq!(farm.write_sector(0).await.unwrap().saved_progress(), None);
    });
}

/// What the disk does to bytes that it said to have written is found by reading them back, if that was asked for, and else by a scrub.
#[test]
fn written_bytes_are_read_back_only_where_that_is_asked_for() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made = Made::new(1, 0, 5, 1);
        for is_verified in [true, false] {
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            let writer = made.write(&farm).await;
            if is_verified {
                writer.verify_writes();
            }
            bad_input::edit(dir.path(), PLOT_FILE, 600_000, |byte| byte ^ 1);
            let finished = writer.finish(&made.metadata, &made.checksum()).await;
            match is_verified {
                true => assert!(matches!(finished, Err(SectorError::Checksum { sector: 0 })), "{finished:?}"),
                false => {
                    finished.unwrap();
                    let found = farm.check_sector(Class::Scrub, 0).await.unwrap();
                    assert_eq!(found, Some(SectorFault::Checksum));
                }
            }
        }
        // The contents map is read back in any case: what is audited follows from it.
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        let writer = made.write(&farm).await;
        bad_input::edit(dir.path(), PLOT_FILE, 500, |byte| byte ^ 1);
        let error = writer.finish(&made.metadata, &made.checksum()).await.unwrap_err();
        assert!(matches!(error, SectorError::ContentsMap { sector: 0, .. }), "{error}");
    });
}

/// Ranges from before a restart are hashed as the disk has them, whichever they are.
#[test]
fn a_wrong_range_from_before_a_restart_is_found_by_its_hash() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made = Made::new(1, 1, 5, 1);
        for (held, wrong) in [(0..3, None), (5..9, Some(6)), (0..17, Some(0)), (10..17, Some(16))] {
            {
                let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
                let writer = farm.write_sector(1).await.unwrap();
                let at = writer.file_offset();
                for &range in &made.ranges(at)[held.clone()] {
                    writer.write(range.0 as u64, &made.slab(&pool, at, range)).await.unwrap();
                }
            }
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            let writer = farm.write_sector(1).await.unwrap();
            let (at, ranges) = (writer.file_offset(), made.ranges(writer.file_offset()));
            if let Some(wrong) = wrong {
                bad_input::edit(dir.path(), PLOT_FILE, at + ranges[wrong].0 as u64 + 9, |byte| byte ^ 8);
            }
            for (index, &range) in ranges.iter().enumerate().filter(|(index, _)| !held.contains(index)) {
                writer.write(range.0 as u64, &made.slab(&pool, at, range)).await.unwrap();
                let hash = writer.range_hash(range.0 as u64, range.1 as u64).await.unwrap();
                assert_eq!(hash, *blake3::hash(&made.bytes[range.0..][..range.1]).as_bytes(), "{index}");
            }
            let past = writer.range_hash(made.bytes.len() as u64 - 1, 2).await;
            assert!(matches!(past, Err(SectorError::Range { bytes: 2, .. })));
            match (writer.finish(&made.metadata, &made.checksum()).await, wrong) {
                (Ok(()), None) => made.check_in(&farm).await,
                (Err(SectorError::Checksum { sector: 1 }), Some(_)) => {}
                (finished, _) => panic!("{wrong:?}: {finished:?}"),
            }
        }
    });
}

#[test]
fn a_wrong_sector_is_not_taken() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        let made = Made::new(1, 0, 5, 1);
        let writer = made.write(&farm).await;
        writer.save_progress(b"all").await.unwrap();
        let mut flipped = made.bytes[70_000..70_001].to_vec();
        flipped[0] ^= 1;
        let mut slab = pool.try_acquire().unwrap().narrow(70_000 % 4096..70_000 % 4096 + 1);
        slab.copy_from_slice(&flipped);
        writer.write(70_000, &slab.freeze()).await.unwrap();
        let error = writer.finish(&made.metadata, &made.checksum()).await.unwrap_err();
        assert!(matches!(error, SectorError::Checksum { sector: 0 }), "{error}");
        let writer = farm.write_sector(0).await.unwrap();
        assert_eq!(writer.saved_progress(), None);
        drop(writer);
        // A whole sector, but not the one that was to be written.
        let writer = made.write(&farm).await;
        let error = writer.finish(&made.metadata, &[0; 32]).await.unwrap_err();
        assert!(matches!(error, SectorError::Checksum { sector: 0 }), "{error}");
        let other = Made::new(1, 1, 5, 1);
        let error = made.write(&farm).await.finish(&other.metadata, &made.checksum()).await.unwrap_err();
        assert!(
            matches!(error, SectorError::Metadata { source: RecordFault::OtherSector(1), .. }),
            "{error}"
        );
        let writer = farm.write_sector(0).await.unwrap();
        let slab = pool.try_acquire().unwrap().narrow(..4096).freeze();
        let error = writer.write(made.bytes.len() as u64 - 4095, &slab).await.unwrap_err();
        assert!(matches!(error, SectorError::Range { bytes: 4096, .. }), "{error}");
        assert_eq!(farm.count(), 0);
    });
}

#[test]
fn a_farm_grows_and_shrinks() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made: Vec<_> = (0..3).map(|sector| Made::new(1, sector, 5, 1)).collect();
        {
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            made[0].plot(&farm).await;
            made[1].plot(&farm).await;
        }
        {
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 3)).await;
            made[1].check_in(&farm).await;
            made[2].plot(&farm).await;
            // The lock has moved to the new file.
            let error = open(&disk, &pool, dir.path(), &config(1, 3)).await.err().unwrap();
            assert!(error.to_string().contains("already locked by a process"), "{error}");
        }
        // Not by a slip: nothing has changed, and the error says how to do it.
        let careful = FarmConfig { may_shrink: false, ..config(1, 1) };
        let error = open(&disk, &pool, dir.path(), &careful).await.err().unwrap().to_string();
        assert!(error.contains("no room for 2 plotted") && error.contains("sectors=1,shrink=yes"), "{error}");
        let whole =
            open_clean(&disk, &pool, dir.path(), &FarmConfig { may_shrink: false, ..config(1, 3) }).await;
        made[2].check_in(&whole).await;
        drop(whole);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 1)).await.unwrap();
        assert_eq!(report, OpenReport { dropped: 2, ..OpenReport::default() });
        made[0].check_in(&farm).await;
        assert_eq!(fs::metadata(dir.path().join(PLOT_FILE)).unwrap().len(), farm.layout().plot_bytes());
        drop(farm);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 3)).await;
        let plotted = SectorStatus::Plotted { history_size: 5 };
        assert_eq!(farm.statuses(), [plotted, SectorStatus::NotPlotted, SectorStatus::NotPlotted]);
    });
}

/// A plot-server's metadata whose sizes add up, and cannot be: not taken, and so never audited.
#[test]
fn sizes_that_cannot_be_or_are_not_those_of_the_contents_map_are_not_taken() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 1)).await;
        let made = Made::new(1, 0, 5, 1);
        let with_sizes = |change: &dyn Fn(&mut Vec<u16>)| {
            let mut made = Made::new(1, 0, 5, 1);
            change(&mut made.metadata.s_bucket_sizes);
            // As it comes from the wire.
            SectorMetadata::decode(&made.metadata.encode()).unwrap()
        };
        let all_in_one = with_sizes(&|sizes| {
            sizes.fill(0);
            sizes[7] = 32_768;
        });
        let error = made.write(&farm).await.finish(&all_in_one, &made.checksum()).await.unwrap_err();
        assert!(
            matches!(error, SectorError::Metadata { source: RecordFault::TooManyChunks(7), .. }),
            "{error}"
        );
        let moved = with_sizes(&|sizes| {
            let (full, empty) =
                (sizes.iter().position(|size| *size == 1), sizes.iter().position(|size| *size == 0));
            sizes.swap(full.unwrap(), empty.unwrap());
        });
        let error = made.write(&farm).await.finish(&moved, &made.checksum()).await.unwrap_err();
        assert!(
            matches!(error, SectorError::Metadata { source: RecordFault::SBucketSize(_), .. }),
            "{error}"
        );
        assert!(!matches!(farm.status(0), SectorStatus::Plotted { .. }));
        made.plot(&farm).await;
        made.check_in(&farm).await;
    });
}
