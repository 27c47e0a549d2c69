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
/// Each says at once that it is there, and of how many farms it will tell: when nobody new did for so long, nobody will.
const NOBODY_NEW_FOR: Duration = Duration::from_millis(700);
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
    /// A name that several farms have.
    #[error("`{name}` are several farms: name one of {candidates}")]
    Ambiguous {
        /// The name.
        name: String,
        /// Names of them that are each of one farm.
        candidates: String,
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

/// Asks all plot-clients for their farms, and listens until those who said that they are there have told of all, so long at most; `me` was
/// never used for another question. In order of hosts.
pub async fn list(bus: &SharedBus, me: InstanceId, at_most: Duration) -> Result<Vec<Client>, FarmsError> {
    let mut told = bus.subscribe(&subjects::farms_told(me)).await?;
    bus.publish(subjects::FARMS_WANTED, FarmsWanted { asker: me }.to_bytes()?).await?;
    let (until, mut anybody_until) = (Instant::now() + at_most, Instant::now() + NOBODY_NEW_FOR);
    let mut clients: BTreeMap<InstanceId, Client> = BTreeMap::new();
    loop {
        // Where nobody is there yet, the bus may be slow to carry the question.
        let is_awaited = clients.is_empty() || clients.values().any(|client| !client.has_told_all());
        let until = if is_awaited { until } else { until.min(anybody_until) };
        let Ok(Some(message)) = timeout_at(until, told.next()).await else { break };
        // What cannot be read is of another release.
        let Ok(FarmsTold { client, host, farms_in_all, farms }) = FarmsTold::from_bytes(&message.payload)
        else {
            continue;
        };
        if !clients.contains_key(&client) {
            anybody_until = Instant::now() + NOBODY_NEW_FOR;
        }
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

impl Client {
    /// Whether all of its farms were heard of.
    pub fn has_told_all(&self) -> bool {
        self.farms.len() >= usize::from(self.farms_in_all)
    }

    /// Whether people call it so: by its host or its id.
    pub fn is_called(&self, name: &str) -> bool {
        self.host == name || self.id.to_string() == name
    }
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
    let found: Vec<_> = clients.iter().filter(|client| client.is_called(name)).collect();
    match found[..] {
        [] => Err(FarmsError::NoSuch(name.to_owned())),
        [one] => Ok(one),
        _ => {
            let ids = found.iter().map(|client| client.id.to_string()).collect::<Vec<_>>().join(", ");
            Err(FarmsError::SeveralClients { host: name.to_owned(), count: found.len(), ids })
        }
    }
}

/// The farms of that name, with their plot-clients: an id, a folder, CLIENT:FOLDER, or all of one CLIENT, which is a plot-client's host or id.
/// What several plot-clients could be meant by is refused, with the names to choose from.
pub fn find<'a>(clients: &'a [Client], name: &str) -> Result<Vec<(&'a Client, &'a FarmTold)>, FarmsError> {
    if clients.iter().any(|client| client.is_called(name)) {
        let client = self::client(clients, name)?;
        return Ok(client.farms.iter().map(|farm| (client, farm)).collect());
    }
    let all = || clients.iter().flat_map(|client| client.farms.iter().map(move |farm| (client, farm)));
    let is_there = |farm: &FarmTold, path: &str| {
        farm.path.trim_end_matches('/') == bounded_text(path.trim_end_matches('/'))
    };
    let is_named = |(client, farm): &(&Client, &FarmTold)| {
        let of_client = name.split_once(':').filter(|(client_name, _)| client.is_called(client_name));
        farm.id.is_some_and(|id| id.to_string() == name)
            || is_there(farm, name)
            || of_client.is_some_and(|(_, path)| is_there(farm, path))
    };
    let found: Vec<_> = all().filter(is_named).collect();
    match found[..] {
        [] => Err(FarmsError::NoSuch(name.to_owned())),
        [_] => Ok(found),
        _ => {
            let candidates: Vec<_> =
                found.iter().map(|(client, farm)| full_name(clients, client, farm)).collect();
            Err(FarmsError::Ambiguous { name: name.to_owned(), candidates: candidates.join(", ") })
        }
    }
}

/// HOST:FOLDER where that is one farm, else ID:FOLDER.
fn full_name(clients: &[Client], client: &Client, farm: &FarmTold) -> String {
    let is_alone = clients.iter().filter(|other| other.host == client.host).count() == 1;
    let client = if is_alone { client.host.clone() } else { client.id.to_string() };
    format!("{client}:{}", farm.path)
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
            sector_bytes: 1 << 30,
            is_plotting_paused: false,
            failing: 0,
            failing_reason: String::new(),
            disk: None,
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
        assert_eq!(paths(&clients[1].id.to_string()).unwrap(), ["b/x"]);
        let ids = clients.each_ref().map(|client| client.id.to_string());
        assert!(paths("/x").unwrap_err().contains(&format!("name one of a:/x, {}:/x", ids[1])));
        assert!(paths("/z").unwrap_err().contains("/z") && paths("c:/x").unwrap_err().contains("c:/x"));
        // Two on one host are never both met.
        let both = paths("b").unwrap_err();
        assert!(
            both.contains("2 plot-clients") && both.contains(&ids[1]) && both.contains(&ids[2]),
            "{both}"
        );
        assert_eq!(client(&clients, "a").unwrap().id, clients[0].id);
        assert_eq!(client(&clients, &clients[2].id.to_string()).unwrap(), &clients[2]);
        assert!(client(&clients, "b").unwrap_err().to_string().contains("2 plot-clients"));
        assert!(client(&clients, "c").is_err());
    }

    #[test]
    fn a_folder_that_two_plot_clients_of_one_host_have_is_named_by_their_ids() {
        let clients = [client_on(1, "a", &["/x"]), client_on(2, "a", &["/x", "/y"])];
        let ids = clients.each_ref().map(|client| client.id.to_string());
        for name in ["/x", "a:/x"] {
            let refused = find(&clients, name).unwrap_err().to_string();
            assert!(refused.ends_with(&format!("name one of {}:/x, {}:/x", ids[0], ids[1])), "{refused}");
        }
        for name in [format!("{}:/x", ids[1]), FarmId([32; 16]).to_string()] {
            let found = find(&clients, &name).unwrap();
            assert_eq!(found, [(&clients[1], &clients[1].farms[0])], "{name}");
        }
        assert_eq!(find(&clients, "a:/y").unwrap().len(), 1);
        // Both say that they have one farm: one of them is about to let go of it.
        let mut clients = clients;
        clients[1].farms[0].id = clients[0].farms[0].id;
        let refused = find(&clients, &FarmId([16; 16]).to_string()).unwrap_err().to_string();
        assert!(refused.contains(&ids[0]) && refused.contains(&ids[1]), "{refused}");
    }
}
