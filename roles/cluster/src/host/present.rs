//! The members that are present, as the bus tells.

use super::config::wire_role;
use bus::members::{MemberEvent, MemberWatch};
use control::ids::InstanceId;
use control::messages::MemberEntry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use transport::tls::{Fingerprint, Members, Pin};

/// The members that are present, by id: alive or suspect where their heartbeats are heard, listed where they are not. A
/// plot-client knows only of those whom it asks ([`control::members::entries_for`]).
pub type Present = Arc<BTreeMap<InstanceId, MemberEntry>>;

/// The certificate of a member and what it is by it.
fn pinned(entry: &MemberEntry) -> (Fingerprint, Pin) {
    let pin = Pin { role: wire_role(entry.role), member: Some(entry.id.0) };
    (Fingerprint(entry.certificate_sha256), pin)
}

/// Keeps the list of present members, and lets those in whose entries are there, until the bus is closed. A bus that is away or lost its
/// store takes nobody from the list ([`control::members`]), so no connection ends for that.
pub(super) async fn watch_members(
    mut watch: MemberWatch,
    present: watch::Sender<Present>,
    let_in: Arc<Members>,
) {
    while let Some(event) = watch.next().await {
        match &event {
            MemberEvent::Joined(entry) | MemberEvent::Updated(entry) => {
                tracing::debug!(role = %entry.role, id = %entry.id, host = entry.host, "member present");
            }
            MemberEvent::Suspect(id) => tracing::debug!(%id, "member silent"),
            MemberEvent::Gone(id) => match present.borrow().get(id) {
                Some(entry) => tracing::info!(role = %entry.role, %id, host = entry.host, "member gone"),
                None => tracing::info!(%id, "member gone"),
            },
            MemberEvent::Listed(_) | MemberEvent::Unlisted(_) => {
                let_in.set(watch.listed().map(pinned));
                continue;
            }
        }
        let now: BTreeMap<_, _> = watch.present().map(|(entry, _)| (entry.id, entry.clone())).collect();
        present.send_replace(Arc::new(now));
    }
}
