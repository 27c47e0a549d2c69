//! `autonomys-farmer dev-node`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use cluster::shutdown;
use devnet::{DevNode, DevNodeConfig, GenesisParameters, KzgSource, RpcMethods};

use super::CommandResult;

/// Constants of the network, for `--mainnet-constants`.
const MAINNET_ERA_BLOCKS: u32 = 2016;
const MAINNET_VOTES_PER_BLOCK: u16 = 9;
const MAINNET_MAX_PIECES_IN_SECTOR: u16 = 1000;

#[derive(Debug, Args)]
pub struct DevNodeArgs {
    /// Address for the WebSocket
    #[arg(long, default_value = "127.0.0.1:9944")]
    listen: SocketAddr,
    /// Folder of the chain; made if missing, else the chain in it goes on
    #[arg(long)]
    base_path: PathBuf,
    /// Files and folders to make history of (a folder: what git tracks in it). Without it: the checkout around the working
    /// directory, or else a built-in text
    #[arg(long, num_args = 1.., value_name = "PATH")]
    history: Vec<PathBuf>,
    /// Most segments to archive at the start
    #[arg(long)]
    segments: Option<u64>,
    /// Archive a segment of made-up blocks every so many slots, which takes all cores for ten seconds or more
    #[arg(long, value_name = "SLOTS", value_parser = clap::value_parser!(u64).range(1..))]
    segment_every_slots: Option<u64>,
    /// Length of a slot in milliseconds [default: 1000]
    #[arg(long)]
    slot_ms: Option<u64>,
    /// Probability of a block in a slot that the solution range is steered to [default: 1/6]
    #[arg(long, value_name = "N/D", value_parser = parse_ratio)]
    slot_probability: Option<(u64, u64)>,
    /// Blocks between two adjustments of the solution range [default: 30]
    #[arg(long)]
    era_blocks: Option<u32>,
    /// Votes expected for each block [default: 1]
    #[arg(long)]
    votes_per_block: Option<u16>,
    /// Most pieces in a sector [default: 32]
    #[arg(long)]
    max_pieces_in_sector: Option<u16>,
    /// Pieces that the initial solution range is made for [default: 4 sectors' worth]
    #[arg(long)]
    expected_pieces: Option<u64>,
    /// The network's era (2016 blocks), votes (9) and pieces in a sector (1000)
    #[arg(long, conflicts_with_all = ["era_blocks", "votes_per_block", "max_pieces_in_sector"])]
    mainnet_constants: bool,
    /// When slot 0 begins, in milliseconds since 1970 [default: now]; nodes of one genesis and time agree on slots
    #[arg(long, value_name = "MS")]
    genesis_time_ms: Option<u64>,
    /// KZG parameters of the Ethereum ceremony; without it an insecure setup for development is used
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
    /// Which methods callers may use
    #[arg(long, value_enum, default_value = "unsafe")]
    rpc_methods: RpcMethodsArg,
    /// Give out every piece of history, as no real node does: by default only the newest segment until all subscribers have
    /// acknowledged it, then the first one
    #[arg(long)]
    all_pieces: bool,
    /// The default; accepted since there are command lines with it
    #[arg(long, conflicts_with = "all_pieces", hide = true)]
    strict_pieces: bool,
    /// Pretend to be syncing for so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    syncing_for_ms: u64,
    /// A node of the same chain, made of the same files with the same flags: blocks, votes and what was seen of solutions are
    /// exchanged with it. May be given several times; one side of each pair is enough
    #[arg(long = "peer", value_name = "ws://HOST:PORT", value_parser = parse_peer)]
    peers: Vec<String>,
    /// JSON file with what became of all solutions, renewed every slot
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RpcMethodsArg {
    Safe,
    Unsafe,
}

impl DevNodeArgs {
    /// Runs the node until the process is told to end.
    pub fn run(self) -> CommandResult {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(run(self.into_config()));
        // What other threads still compute is not needed, and what they write is safe to leave at any point.
        runtime.shutdown_background();
        outcome
    }

    fn into_config(self) -> DevNodeConfig {
        let mainnet = self.mainnet_constants;
        let parameters = GenesisParameters {
            slot_ms: self.slot_ms,
            slot_probability: self.slot_probability,
            era_blocks: if mainnet { Some(MAINNET_ERA_BLOCKS) } else { self.era_blocks },
            votes_per_block: if mainnet { Some(MAINNET_VOTES_PER_BLOCK) } else { self.votes_per_block },
            max_pieces_in_sector: if mainnet {
                Some(MAINNET_MAX_PIECES_IN_SECTOR)
            } else {
                self.max_pieces_in_sector
            },
            expected_pieces: self.expected_pieces,
            segments: self.segments,
            genesis_time_ms: self.genesis_time_ms,
            ..GenesisParameters::default()
        };
        DevNodeConfig {
            history: self.history,
            parameters,
            kzg: self.kzg_parameters.map_or(KzgSource::Insecure, KzgSource::Ceremony),
            segment_every_slots: self.segment_every_slots,
            rpc_methods: match self.rpc_methods {
                RpcMethodsArg::Safe => RpcMethods::Safe,
                RpcMethodsArg::Unsafe => RpcMethods::Unsafe,
            },
            strict_pieces: self.strict_pieces || !self.all_pieces,
            syncing_for: Duration::from_millis(self.syncing_for_ms),
            report: self.report,
            peers: self.peers,
            ..DevNodeConfig::new(self.listen, self.base_path)
        }
    }
}

async fn run(config: DevNodeConfig) -> CommandResult {
    let shutdown = shutdown::requested()?;
    tokio::pin!(shutdown);
    let node = tokio::select! {
        node = DevNode::start(config) => node?,
        () = &mut shutdown => return Ok(()),
    };
    node.run(shutdown).await?;
    Ok(())
}

/// Reads `N/D`.
fn parse_ratio(text: &str) -> Result<(u64, u64), String> {
    let parse = || {
        let (numerator, denominator) = text.split_once('/')?;
        Some((numerator.parse().ok()?, denominator.parse().ok()?))
    };
    parse().ok_or_else(|| format!("'{text}' is not of the form 1/6"))
}

/// Checks that a peer is `ws://HOST:PORT`.
fn parse_peer(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("ws://").map(|rest| rest.trim_end_matches('/'));
    let port =
        authority.and_then(|authority| authority.rsplit_once(':')).filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port > 0 => Ok(text.to_owned()),
        _ => Err(format!("'{text}' is not of the form ws://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers() {
        for good in ["ws://127.0.0.1:9944", "ws://node-1:1/", "ws://[::1]:9944"] {
            assert_eq!(parse_peer(good), Ok(good.to_owned()));
        }
        for bad in
            ["", "ws://", "ws://:1", "ws://host", "ws://host:0", "ws://host:70000", "http://host:1", "host:1"]
        {
            assert!(parse_peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ratios() {
        assert_eq!(parse_ratio("1/6"), Ok((1, 6)));
        for bad in ["", "1", "1/", "/6", "a/b", "1/6/7", "-1/6"] {
            assert!(parse_ratio(bad).is_err(), "{bad}");
        }
    }
}
