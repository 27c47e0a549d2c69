//! A whole sector through connections that break.

use crate::net::{Faults, Net, Rng};
use crate::traffic::{Server, connect, sector_bytes};
use std::collections::BTreeMap;
use transport::connection::{Event, RequestId};
use transport::message::Request;
use transport::transfer::{RANGE_BYTES, Range, Received, SectorPlace, SectorTransfer};

const STAGING: [u8; 16] = [9; 16];
const SECTOR_BYTES: u64 = 9 * RANGE_BYTES + 12_345;
const FILE_OFFSET: u64 = 3 * SECTOR_BYTES;
const WINDOW: usize = 3;

fn place() -> SectorPlace {
    SectorPlace { file_offset: FILE_OFFSET, sector_bytes: SECTOR_BYTES, content: [1; 32] }
}

struct Puller {
    transfer: SectorTransfer,
    asked: BTreeMap<RequestId, Range>,
    file: Vec<u8>,
}

impl Puller {
    /// Pulls over one connection until the sector is whole or the connection is gone; returns payload bytes sent.
    fn pull(&mut self, seed: u64, faults: Faults) -> u64 {
        let mut net = Net::new(seed, faults, connect);
        let mut server = Server::default();
        while !self.transfer.is_complete() && !net.a.conn.is_closed() {
            let (at_a, at_b) = net.turn();
            at_a.into_iter().for_each(|event| self.on(event, &mut net));
            at_b.into_iter().for_each(|event| server.on(event, net.now_ms, &mut net.rng));
            let answered =
                if net.b.conn.is_closed() { 0 } else { server.answer(&mut net.b.conn, net.now_ms) };
            if self.ask(&mut net) + answered > 0 {
                continue;
            }
            net.sleep(server.next_ms().unwrap_or(u64::MAX));
        }
        self.asked.clear();
        self.transfer.connection_lost();
        net.b.conn.stats().payload_sent_bytes
    }

    fn ask(&mut self, net: &mut Net) -> usize {
        let before = self.asked.len();
        while net.a.conn.room_for_requests() > 0 && !net.a.conn.is_closed() {
            let Some(range) = self.transfer.next_range() else { break };
            let Range { offset, length, phase, .. } = range;
            let request = Request::GetSectorRange { staging: STAGING, phase, offset, length };
            let id = net.a.conn.request(request, None, None, net.now_ms).unwrap();
            self.asked.insert(id, range);
        }
        self.asked.len() - before
    }

    fn on(&mut self, event: Event<Vec<u8>>, net: &mut Net) {
        match event {
            Event::Response { id, response, payload } => {
                let (range, bytes) = (self.asked.remove(&id).unwrap(), payload.unwrap());
                net.a.conn.release(bytes.len());
                if self.transfer.received(range.index, &bytes, response.blake3().unwrap()) == Received::Write
                {
                    let at = range.offset as usize;
                    self.file[at..at + bytes.len()].copy_from_slice(&bytes);
                    self.transfer.written(range.index);
                }
            }
            Event::Failed { id, .. } => self.transfer.failed(self.asked.remove(&id).unwrap().index),
            _ => {}
        }
    }
}

/// The stream breaks again and again, the client crashes each time and goes on from what it saved.
#[test]
fn resumes_after_cuts_and_sends_little_twice() {
    for seed in 0..6 {
        let mut rng = Rng(seed);
        let mut puller = Puller {
            transfer: SectorTransfer::new(place(), WINDOW),
            asked: BTreeMap::new(),
            file: vec![0; SECTOR_BYTES as usize],
        };
        let (mut sent, mut cuts) = (0, 0);
        while !puller.transfer.is_complete() {
            let cut_after_bytes = (cuts < 3).then(|| 3_000_000 + rng.below(6_000_000));
            let faults = Faults { segment_bytes: 300_000, delay_ms: 3, cut_after_bytes, ..Faults::NONE };
            sent += puller.pull(rng.next(), faults);
            cuts += u64::from(cut_after_bytes.is_some());
            let saved = puller.transfer.save();
            puller.transfer = SectorTransfer::restore(place(), WINDOW, &saved).unwrap();
        }
        assert_eq!(puller.file, sector_bytes(STAGING, 0, SECTOR_BYTES as usize), "seed {seed}");
        // A cut costs at most what was under way.
        assert!(sent - SECTOR_BYTES <= cuts * WINDOW as u64 * RANGE_BYTES, "seed {seed}: {sent} sent");
        assert_eq!(puller.transfer.stats().received_twice_bytes, 0);
    }
}

#[test]
fn damaged_range_is_asked_for_again() {
    let mut puller = Puller {
        transfer: SectorTransfer::new(place(), WINDOW),
        asked: BTreeMap::new(),
        file: vec![0; SECTOR_BYTES as usize],
    };
    let flipped_bit = Some(8 * (RANGE_BYTES + 100_000));
    let sent = puller.pull(1, Faults { flipped_bit, ..Faults::NONE });
    assert!(puller.transfer.is_complete());
    assert_eq!(puller.file, sector_bytes(STAGING, 0, SECTOR_BYTES as usize));
    let stats = puller.transfer.stats();
    assert_eq!(stats.damaged_ranges, 1);
    assert_eq!(stats.received_twice_bytes, sent - SECTOR_BYTES);
}
