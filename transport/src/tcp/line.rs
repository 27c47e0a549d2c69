//! The line to one peer: open, being dialled, or not to be had for a while. [`Dialing`] decides, this carries out.
//!
//! A dial is a task of its own, so it goes on when whoever asked for it has no more time, and all who wait share it.

use super::asking::{Answers, Connected};
use super::link::{Link, Wire};
use super::memory::Memory;
use super::peer::{ClientConfig, ServerPin};
use super::reply::ClientError;
use super::tasks;
use crate::dialing::{Dialing, Patience, Step, Wanted};
use crate::limits::HEAD_START_MS;
use crate::tls::{Session, TlsError, client_config};
use engine::net::TcpStream;
use engine::task::{LocalTask, sleep, spawn_local, yield_now};
use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

pub(super) struct Line {
    config: ClientConfig,
    memory: Memory,
    started: Instant,
    dialing: RefCell<Dialing>,
    current: RefCell<Option<Rc<Connected>>>,
    last_failure: RefCell<(SocketAddr, String)>,
    /// Told when the dial under way is over.
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
    /// The dial under way, or the last one; it ends with the line.
    dial: RefCell<Option<LocalTask<()>>>,
    itself: Weak<Self>,
}

/// What came of one address.
type Opened = Result<Rc<Connected>, String>;

impl Line {
    pub(super) fn new(config: ClientConfig, memory: Memory) -> Rc<Self> {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let patience = Patience {
            connect_ms: ms(config.connect_timeout),
            head_start_ms: HEAD_START_MS,
            first_pause_ms: ms(config.first_backoff),
            max_pause_ms: ms(config.max_backoff),
        };
        let dialing = RefCell::new(Dialing::new(config.addresses.len(), patience));
        let last_failure = RefCell::new((config.addresses[0], String::new()));
        Rc::new_cyclic(|itself| Self {
            config,
            memory,
            started: Instant::now(),
            dialing,
            current: RefCell::default(),
            last_failure,
            waiting: RefCell::default(),
            dial: RefCell::default(),
            itself: itself.clone(),
        })
    }

    /// The open connection; dials if there is none.
    pub(super) async fn connected(&self) -> Result<Rc<Connected>, ClientError> {
        loop {
            if let Some(connected) = self.open_one() {
                return Ok(connected);
            }
            let wanted = self.dialing.borrow_mut().wanted(self.now_ms());
            match wanted {
                Wanted::Paused(ms) => return Err(self.unreachable(Duration::from_millis(ms))),
                Wanted::Dial => self.begin(),
                Wanted::UnderWay => {}
            }
            let (sender, over) = oneshot::channel();
            self.waiting.borrow_mut().push(sender);
            // However it is told, what came of it is looked at.
            let _ = over.await;
        }
    }

    pub(super) fn first_address(&self) -> SocketAddr {
        self.config.addresses[0]
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("no process runs that long")
    }

    /// The connection if it is open; one that is over is judged.
    fn open_one(&self) -> Option<Rc<Connected>> {
        let mut current = self.current.borrow_mut();
        let answers = current.as_ref()?.answers.clone();
        if answers.has_answered() {
            self.dialing.borrow_mut().answered();
        }
        if !answers.is_closed() {
            return current.clone();
        }
        if answers.is_retired() {
            self.dialing.borrow_mut().retired(self.now_ms(), random());
        }
        *current = None;
        None
    }

    /// How many addresses the peer has.
    pub(super) fn addresses(&self) -> usize {
        self.config.addresses.len()
    }

    fn unreachable(&self, retry_in: Duration) -> ClientError {
        let (peer, reason) = self.last_failure.borrow().clone();
        ClientError::Unreachable { peer, reason, retry_in }
    }

    fn begin(&self) {
        // Until something is known better.
        let reason = format!("no answer within {:?}", self.config.connect_timeout);
        *self.last_failure.borrow_mut() = (self.first_address(), reason);
        let line = self.itself.clone();
        let dial = spawn_local(async move {
            // A new task runs before it is entered below, so it must wait once.
            yield_now().await;
            dial(&line).await;
        });
        *self.dial.borrow_mut() = Some(dial);
    }

    /// The dial is over.
    fn over(&self, opened: Option<(usize, Rc<Connected>)>) {
        match opened {
            Some((address, connected)) => {
                self.dialing.borrow_mut().opened(address);
                *self.current.borrow_mut() = Some(connected);
            }
            None => self.dialing.borrow_mut().over(self.now_ms(), random()),
        }
        for waiting in self.waiting.take() {
            // It may be gone.
            let _ = waiting.send(());
        }
    }

    fn failed(&self, address: usize, reason: String) {
        *self.last_failure.borrow_mut() = (self.config.addresses[address], reason);
        self.dialing.borrow_mut().failed();
    }
}

/// Members that lost the same server must not all return in the same moment.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// Dials until an address has opened, all have failed, or nobody wants the line any more.
async fn dial(line: &Weak<Line>) {
    let mut trying = FuturesUnordered::new();
    loop {
        let Some(this) = line.upgrade() else { return };
        let now_ms = this.now_ms();
        let step = this.dialing.borrow_mut().step(now_ms);
        let pause = match step {
            Step::Try(address) => {
                trying.push(open(address, this.config.clone(), this.memory.clone()));
                continue;
            }
            Step::Wait(until_ms) => Duration::from_millis(until_ms.saturating_sub(now_ms).max(1)),
            Step::Over => return this.over(None),
        };
        drop(this);
        let outcome = match select(trying.next(), pin!(sleep(pause))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => None,
        };
        let (Some(this), Some((address, opened))) = (line.upgrade(), outcome) else { continue };
        match opened {
            Ok(connected) => return this.over(Some((address, connected))),
            Err(reason) => this.failed(address, reason),
        }
    }
}

async fn open(address: usize, config: ClientConfig, memory: Memory) -> (usize, Opened) {
    let peer = config.addresses[address];
    let opening = async {
        let stream =
            TcpStream::connect(peer, config.connect_timeout).await.map_err(|error| error.to_string())?;
        let (connected, opened) = start(&config, peer, stream, memory).map_err(|error| error.to_string())?;
        opened.await.map_err(|_| connected.answers.close_text())?;
        Ok(connected)
    };
    (address, opening.await)
}

fn start(
    config: &ClientConfig,
    peer: SocketAddr,
    stream: TcpStream,
    memory: Memory,
) -> Result<(Rc<Connected>, oneshot::Receiver<()>), ConnectError> {
    stream.set_nodelay(true)?;
    let wire = match &config.pin {
        ServerPin::InsecurePlainTcp => Wire::Plain,
        ServerPin::Certificate(identity, expected) => {
            let own = identity.fingerprint();
            let made = client_config(identity, *expected)
                .and_then(|settings| Session::client(settings, peer.ip()))
                .map_err(|error| TlsError::explain(error, peer, own))?;
            Wire::Tls { session: RefCell::new(Box::new(made)), own, members: None }
        }
    };
    let (answers, opened) = Answers::new();
    let weak: Weak<Answers> = Rc::downgrade(&answers);
    let on_event = Box::new(move |link: &Rc<Link>, event| {
        if let Some(answers) = weak.upgrade() {
            answers.on(link, event);
        }
    });
    let link = tasks::start(stream, peer, wire, config.connection.clone(), memory, on_event);
    Ok((Rc::new(Connected { link, answers }), opened))
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}
