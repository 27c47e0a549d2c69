//! `topology`: the machine and the plan for it, as a table, as JSON, as a drawing.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use cluster::placement::Roster;
use topology::placement::{Overrides, RoleCount, plan_members};
use topology::{Cpus, Machine, Request, checks, detect, show};

use super::CommandResult;

#[derive(Debug, Args)]
pub struct TopologyArgs {
    /// Roles that run here, each with its number where it is not the usual one, as plot-server=2; repeatable
    /// [default: a plot-server for each GPU; without a GPU, a plot-client]
    #[arg(long = "role", value_name = "ROLE[=N]", value_delimiter = ',')]
    roles: Vec<RoleCount>,
    /// Plan for the cluster's processes that run here now, as they do themselves
    #[arg(long, conflicts_with_all = ["roles", "xml", "synthetic", "cpu_cores", "numa_nodes", "no_pin"])]
    running: bool,
    /// Folder in which the processes of this host find each other [default: /run/lock/autonomys-farmer]
    #[arg(long, env = "FARMER_ROSTER", value_name = "DIR")]
    roster: Option<PathBuf>,
    /// Look at the machine in a file that `lstopo FILE.xml` wrote, instead of this one
    #[arg(long, value_name = "FILE", conflicts_with = "synthetic")]
    xml: Option<PathBuf>,
    /// Look at a machine that does not exist, as "pack:2 [numa] l3:2 core:4 pu:2 | gpu@0 gpu@1 nic@0 nvme@1 cpus=0-7"
    #[arg(long, value_name = "DESCRIPTION")]
    synthetic: Option<String>,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Draw machine and plan into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Plan with these CPUs alone, as 0-47,96-143
    #[arg(long, value_name = "LIST")]
    cpu_cores: Option<Cpus>,
    /// Plan with the CPUs of this NUMA node alone; repeatable
    #[arg(long = "numa-node", value_name = "NODE")]
    numa_nodes: Vec<u32>,
    /// Bind nothing: leave every thread to the system
    #[arg(long)]
    no_pin: bool,
}

impl TopologyArgs {
    pub fn run(self) -> CommandResult {
        let machine = self.machine()?;
        let mut plan = if self.running {
            plan_members(&machine, &Roster::find(self.roster.as_deref())?.members())
        } else {
            let overrides = Overrides { cpus: self.cpu_cores, nodes: self.numa_nodes, no_pin: self.no_pin };
            topology::plan(&machine, &Request { roles: self.roles, overrides })?
        };
        if self.xml.is_none() && self.synthetic.is_none() {
            plan.warnings.extend(checks::this_machine(&machine));
        }
        if let Some(path) = &self.svg {
            let failed = |error| format!("cannot write {}: {error}", path.display());
            std::fs::write(path, show::svg(&machine, &plan)).map_err(failed)?;
        }
        let text =
            if self.json { serde_json::to_string(&plan)? + "\n" } else { show::table(&machine, &plan) };
        match io::stdout().write_all(text.as_bytes()) {
            // Whoever reads has enough, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    fn machine(&self) -> Result<Machine, topology::MachineError> {
        match (&self.xml, &self.synthetic) {
            (Some(path), _) => detect::from_xml(path),
            (None, Some(text)) => detect::from_description(text),
            (None, None) => detect::this_machine(),
        }
    }
}
