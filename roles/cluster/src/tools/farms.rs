//! The farms of a cluster, as their plot-clients tell of them, and what is asked of those.
//!
//! ```text
//!   FarmsWanted ─▶ every plot-client ─▶ FarmsTold        FarmsOrder ─▶ one plot-client ─▶ FarmsDone
//! ```
//! Works on core messages alone, without JetStream.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{BusError, SharedBus};
use control::ids::InstanceId;
use control::messages::{
    Control, FarmTold, FarmsChange, FarmsDone, FarmsOrder, FarmsTold, FarmsWanted, MessageError,
    bounded_text, subjects,
};
use tokio::time::{Instant, timeout_at};

/// Plot-clients answer within this; one whose disk hangs takes a second.
pub const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// A plot-client says within 15 s what has become of a farm.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Why there is nothing to show, or nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum FarmsError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The request is too long.
    #[error("this cannot be asked for: {0}")]
    Message(#[from] MessageError),
    /// Nobody answered.
    #[error(
        "no plot-client of cluster `{0}` answers: is one running, is it of this release, and is this the right --cluster?"
    )]
    Nobody(String),
    /// No such farm or host.
    #[error("no farm, folder or host `{0}`: see `farms list`")]
    NoSuch(String),
    /// A folder that several hosts have.
    #[error(
        "several plot-clients have a farm in {path}: {hosts}; name one as HOST:{path}, or the farm by its id"
    )]
    Ambiguous {
        /// The folder.
        path: String,
        /// Their hosts.
        hosts: String,
    },
    /// Several plot-clients on a host.
    #[error("{count} plot-clients run on host {host}: name one of them by its id instead: {ids}")]
    SeveralClients {
        /// The host.
        host: String,
        /// How many.
        count: usize,
        /// Their ids.
        ids: String,
    },
    /// The plot-client would not.
    #[error("{host}: {reason}")]
    Refused {
        /// Its host.
        host: String,
        /// Why.
        reason: String,
    },
}

/// A plot-client and its farms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Which.
    pub id: InstanceId,
    /// Its host.
    pub host: String,
    /// Farms that it says it has.
    pub farms_in_all: u16,
    /// Those that were heard of, in order of their folders.
    pub farms: Vec<FarmTold>,
}

/// Asks all plot-clients for their farms, and listens so long; `me` was never used for another question. In order of hosts.
pub async fn list(bus: &SharedBus, me: InstanceId, listen: Duration) -> Result<Vec<Client>, FarmsError> {
    let mut told = bus.subscribe(&subjects::farms_told(me)).await?;
    bus.publish(subjects::FARMS_WANTED, FarmsWanted { asker: me }.to_bytes()?).await?;
    let until = Instant::now() + listen;
    let mut clients: BTreeMap<InstanceId, Client> = BTreeMap::new();
    while let Ok(Some(message)) = timeout_at(until, told.next()).await {
        // What cannot be read is of another release.
        let Ok(FarmsTold { client, host, farms_in_all, farms }) = FarmsTold::from_bytes(&message.payload)
        else {
            continue;
        };
        let new = || Client { id: client, host, farms_in_all, farms: Vec::new() };
        clients.entry(client).or_insert_with(new).farms.extend(farms);
    }
    let mut clients: Vec<_> = clients.into_values().collect();
    if clients.is_empty() {
        return Err(FarmsError::Nobody(bus.cluster().to_string()));
    }
    clients.iter_mut().for_each(|client| client.farms.sort_by(|a, b| a.path.cmp(&b.path)));
    clients.sort_by(|a, b| (&a.host, a.id).cmp(&(&b.host, b.id)));
    Ok(clients)
}

/// Asks a plot-client to do this; gives what it did.
pub async fn change(bus: &SharedBus, client: &Client, what: FarmsChange) -> Result<String, FarmsError> {
    let request = FarmsOrder { what }.to_bytes()?;
    let answer = bus.request(&subjects::farms(client.id), request, ANSWER_WITHIN).await?;
    match FarmsDone::from_bytes(&answer)? {
        FarmsDone::Done { what } => Ok(what),
        FarmsDone::Refused { reason } => Err(FarmsError::Refused { host: client.host.clone(), reason }),
    }
}

/// The one plot-client of a host, or of this id.
pub fn client<'a>(clients: &'a [Client], name: &str) -> Result<&'a Client, FarmsError> {
    let is_it = |client: &&Client| client.host == name || client.id.to_string() == name;
    let found: Vec<_> = clients.iter().filter(is_it).collect();
    match found[..] {
        [] => Err(FarmsError::NoSuch(name.to_owned())),
        [one] => Ok(one),
        _ => {
            let ids = found.iter().map(|client| client.id.to_string()).collect::<Vec<_>>().join(", ");
            Err(FarmsError::SeveralClients { host: name.to_owned(), count: found.len(), ids })
        }
    }
}

/// The farms of that name, with their plot-clients: an id, a folder, HOST:FOLDER, or all of a host.
pub fn find<'a>(clients: &'a [Client], name: &str) -> Result<Vec<(&'a Client, &'a FarmTold)>, FarmsError> {
    let all = || clients.iter().flat_map(|client| client.farms.iter().map(move |farm| (client, farm)));
    let bounded = bounded_text(name.trim_end_matches('/'));
    let is_there = |farm: &FarmTold, path: &str| farm.path.trim_end_matches('/') == path;
    let by_folder: Vec<_> = all().filter(|(_, farm)| is_there(farm, &bounded)).collect();
    if by_folder.len() > 1 {
        let hosts: Vec<_> = by_folder.iter().map(|(client, _)| client.host.as_str()).collect();
        return Err(FarmsError::Ambiguous { path: name.to_owned(), hosts: hosts.join(", ") });
    }
    let is_named = |(client, farm): &(&Client, &FarmTold)| {
        let of_host = name.strip_prefix(&client.host).and_then(|rest| rest.strip_prefix(':'));
        farm.id.is_some_and(|id| id.to_string() == name)
            || client.host == name
            || of_host.is_some_and(|path| is_there(farm, path.trim_end_matches('/')))
    };
    let found: Vec<_> = by_folder.into_iter().chain(all().filter(is_named)).collect();
    if found.is_empty() { Err(FarmsError::NoSuch(name.to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::ids::FarmId;
    use control::messages::FarmStage;

    fn client_on(number: u8, host: &str, paths: &[&str]) -> Client {
        let farm = |(nth, path): (u8, &&str)| FarmTold {
            path: (*path).to_owned(),
            id: Some(FarmId([16 * number + nth; 16])),
            stage: FarmStage::Farming,
            plotted: 1,
            sectors: 1,
            is_plotting_paused: false,
            disk: String::new(),
            scrub: String::new(),
        };
        let farms = (0..).zip(paths).map(farm).collect();
        Client { id: InstanceId([number; 16]), host: host.to_owned(), farms_in_all: 0, farms }
    }

    #[test]
    fn farms_are_named_by_id_folder_or_host() {
        let clients = [client_on(1, "a", &["/x", "/y/"]), client_on(2, "b", &["/x"]), client_on(3, "b", &[])];
        let paths = |name: &str| {
            let found = find(&clients, name).map_err(|error| error.to_string())?;
            Ok::<_, String>(
                found
                    .iter()
                    .map(|(client, farm)| format!("{}{}", client.host, farm.path))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(paths("/y").unwrap(), ["a/y/"]);
        assert_eq!(paths("b:/x/").unwrap(), ["b/x"]);
        assert_eq!(paths("a").unwrap(), ["a/x", "a/y/"]);
        assert_eq!(paths(&FarmId([32; 16]).to_string()).unwrap(), ["b/x"]);
        assert!(paths("/x").unwrap_err().contains("a, b") && paths("/z").unwrap_err().contains("/z"));
        assert_eq!(client(&clients, "a").unwrap().id, clients[0].id);
        assert_eq!(client(&clients, &clients[2].id.to_string()).unwrap(), &clients[2]);
        assert!(client(&clients, "b").unwrap_err().to_string().contains("2 plot-clients"));
        assert!(client(&clients, "c").is_err());
    }
}
