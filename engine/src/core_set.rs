//! Sets of CPUs that threads stand on, and that can be moved under them.
//!
//! Owns: which threads stand on which set. Never: which CPUs those are; the caller's placement says that.

use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, gettid, sched_setaffinity};
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// CPUs for threads. A thread that enters is bound to all of them, until it enters another set or ends; when the set is moved, the
/// threads on it move along. Clones are handles to the same set.
#[derive(Clone)]
pub struct CoreSet(Arc<Mutex<State>>);

struct State {
    cores: Vec<usize>,
    set: CpuSet,
    threads: Vec<Pid>,
}

/// What the present thread stands on; dropped when it ends, before the system may give its id to another one.
struct Standing {
    on: CoreSet,
    thread: Pid,
}

thread_local! {
    static STANDING: RefCell<Option<Standing>> = const { RefCell::new(None) };
}

/// Why a set of cores cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CoresError {
    /// There is no core to run on.
    #[error("the set of cores is empty")]
    Empty,
    /// A number above what the system call takes.
    #[error("core {core} is above {max}, the highest that can be named", max = CpuSet::MAX_CPU - 1)]
    TooHigh {
        /// The core.
        core: usize,
    },
    /// The system refused, mostly since the cores are outside of the cgroup's cpuset.
    #[error(
        "cannot run on cores {cores:?}: {source}; this process may be confined to others (cpuset, taskset)"
    )]
    Refused {
        /// The cores asked for.
        cores: Vec<usize>,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl CoreSet {
    /// A set of these CPUs; nobody stands on it yet. Tries it once, in a thread of its own.
    pub fn new(cores: &[usize]) -> Result<Self, CoresError> {
        let set = tried(cores)?;
        Ok(Self(Arc::new(Mutex::new(State { cores: cores.into(), set, threads: Vec::new() }))))
    }

    /// Binds the present thread to the set, for good.
    pub fn enter(&self) {
        let thread = gettid();
        // Leaves the one before first: a thread is moved by one set alone.
        STANDING.with_borrow_mut(Option::take);
        let mut state = self.state();
        // Tried before; if the process was confined further since, running elsewhere is better than not at all.
        let _ = sched_setaffinity(None, &state.set);
        state.threads.push(thread);
        drop(state);
        STANDING.with_borrow_mut(|standing| *standing = Some(Standing { on: self.clone(), thread }));
    }

    /// Makes it a set of these CPUs and moves the threads that stand on it. When the system refuses them, all stays as it was.
    pub fn move_to(&self, cores: &[usize]) -> Result<(), CoresError> {
        let set = tried(cores)?;
        let mut state = self.state();
        for &thread in &state.threads {
            // A thread leaves under this lock, so that none of these has ended. What else could fail was tried above.
            let _ = sched_setaffinity(Some(thread), &set);
        }
        (state.cores, state.set) = (cores.into(), set);
        Ok(())
    }

    /// The CPUs.
    pub fn cores(&self) -> Vec<usize> {
        self.state().cores.clone()
    }

    /// How many threads stand on it.
    pub fn threads(&self) -> usize {
        self.state().threads.len()
    }

    /// Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.on.state().threads.retain(|&thread| thread != self.thread);
    }
}

impl fmt::Debug for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoreSet({:?})", self.cores())
    }
}

/// The cores as the system call takes them.
fn cpu_set(cores: &[usize]) -> Result<CpuSet, CoresError> {
    let mut set = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            return Err(CoresError::TooHigh { core });
        }
        set.set(core);
    }
    if cores.is_empty() { Err(CoresError::Empty) } else { Ok(set) }
}

/// The CPUs as the system takes them, and takes them now.
fn tried(cores: &[usize]) -> Result<CpuSet, CoresError> {
    let set = cpu_set(cores)?;
    let refused = |source: Errno| CoresError::Refused { cores: cores.into(), source: source.into() };
    std::thread::scope(|scope| scope.spawn(|| sched_setaffinity(None, &set)).join())
        .expect("a system call does not panic")
        .map_err(refused)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::sched_getaffinity;
    use std::sync::mpsc;

    fn allowed(thread: Option<Pid>) -> Vec<usize> {
        let allowed = sched_getaffinity(thread).unwrap();
        (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
    }

    #[test]
    fn threads_move_with_their_set_until_they_leave_or_end() {
        let all = allowed(None);
        let (first, last) = (vec![all[0]], vec![*all.last().unwrap()]);
        let (set, other) = (CoreSet::new(&first).unwrap(), CoreSet::new(&all).unwrap());
        std::thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let (go, gone) = mpsc::channel::<()>();
            let (set_there, other_there) = (set.clone(), other.clone());
            let thread = scope.spawn(move || {
                set_there.enter();
                tell.send(gettid()).unwrap();
                gone.recv().unwrap();
                other_there.enter();
                tell.send(gettid()).unwrap();
                gone.recv().unwrap_err();
            });
            let id = told.recv().unwrap();
            assert_eq!((allowed(Some(id)), set.threads()), (first.clone(), 1));
            set.move_to(&last).unwrap();
            assert_eq!((allowed(Some(id)), set.cores()), (last.clone(), last.clone()));
            assert!(matches!(set.move_to(&[CpuSet::MAX_CPU - 1]), Err(CoresError::Refused { .. })));
            assert_eq!(
                (allowed(Some(id)), set.cores()),
                (last.clone(), last.clone()),
                "a refusal moves nothing"
            );
            go.send(()).unwrap();
            told.recv().unwrap();
            assert_eq!((allowed(Some(id)), set.threads(), other.threads()), (all.clone(), 0, 1));
            set.move_to(&first).unwrap();
            assert_eq!(allowed(Some(id)), all, "it has left");
            drop(go);
            thread.join().unwrap();
        });
        assert_eq!(other.threads(), 0, "it has ended");
        assert_eq!(allowed(None), all, "nobody else moved");
    }
}
