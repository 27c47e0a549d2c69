//! The members that are present, as the bus tells.

use bus::members::{MemberEvent, MemberWatch};
use control::ids::InstanceId;
use control::messages::MemberEntry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use transport::tls::{Fingerprint, Members};

/// The members that are present, by id: alive or suspect where their heartbeats are heard, listed where they are not. A
/// plot-client knows only of those whom it asks ([`control::members::entries_for`]).
pub type Present = Arc<BTreeMap<InstanceId, MemberEntry>>;

/// Keeps the list of present members, and lets those in whose entries are there, until the bus is closed.
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
                let_in.set(watch.listed().map(|entry| Fingerprint(entry.certificate_sha256)));
                continue;
            }
        }
        let now: BTreeMap<_, _> = watch.present().map(|(entry, _)| (entry.id, entry.clone())).collect();
        present.send_replace(Arc::new(now));
    }
}
