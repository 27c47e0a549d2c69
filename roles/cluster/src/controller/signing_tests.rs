use super::*;
use bus::local::LocalBus;
use consensus::identity::Identity;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;

const US: InstanceId = InstanceId([1; 16]);
const HASH: [u8; 32] = [3; 32];

/// A controller whose node is the test.
struct House {
    bus: SharedBus,
    identity: Identity,
    signatures: Signatures,
    counts: Arc<Counts>,
    wants: mpsc::UnboundedSender<Wanted>,
    submitted: mpsc::UnboundedReceiver<RewardSignature>,
}

impl House {
    /// The node takes what is valid.
    fn start() -> Self {
        let (wants, mut wanted) = mpsc::unbounded_channel();
        let (given, submitted) = mpsc::unbounded_channel();
        let bus: SharedBus = Arc::new(LocalBus::new());
        let (signatures, counts) = (Signatures::new(US), Arc::new(Counts::default()));
        let submit: Submit = Box::new(move |signature| {
            let result = given.send(signature).map_err(|_| "the node is gone".to_owned());
            Box::pin(async move { result })
        });
        let passing =
            Passing { bus: bus.clone(), submit, signatures: signatures.clone(), counts: counts.clone() };
        let wanted = futures::stream::poll_fn(move |context| wanted.poll_recv(context));
        tokio::spawn(passing.run(wanted.boxed()));
        let identity = Identity::from_entropy([7; 32]);
        Self { bus, identity, signatures, counts, wants, submitted }
    }

    fn want(&self) {
        self.wants.send(Wanted { hash: HASH, public_key: self.identity.public_key() }).unwrap();
    }

    /// A plot-client that does `answer` with the n-th request.
    async fn plot_client(
        &self,
        answer: impl Fn(u32) -> Option<SigningAnswer> + Send + 'static,
    ) -> Arc<AtomicU32> {
        let mut requests =
            self.bus.subscribe(&subjects::signature(&self.identity.public_key())).await.unwrap();
        let (bus, asked) = (self.bus.clone(), Arc::<AtomicU32>::default());
        let count = asked.clone();
        tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                let request = RewardSigningRequest::from_bytes(&message.payload).unwrap();
                assert_eq!((request.controller, request.hash), (US, HASH));
                if let Some(answer) = answer(count.fetch_add(1, Ordering::Relaxed)) {
                    bus.publish(&message.reply_to.unwrap(), answer.to_bytes().unwrap()).await.unwrap();
                }
            }
        });
        asked
    }

    fn good(&self) -> SigningAnswer {
        SigningAnswer::Signed { signature: self.identity.sign_reward_hash(&HASH) }
    }

    /// Until some wish has ended.
    async fn ended(&self) -> Vec<Outcome> {
        let ended = || Outcome::ALL.into_iter().filter(|outcome| self.counts.signing.of(*outcome) > 0);
        let any = async {
            while ended().next().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), any).await.unwrap();
        ended().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_lost_is_repeated_and_the_node_gets_one_signature() {
    let mut house = House::start();
    let good = house.good();
    let asked = house.plot_client(move |n| (n >= 2).then(|| good.clone())).await;
    house.signatures.handed_to_node(house.identity.public_key());
    let wanted_at = Instant::now();
    house.want();
    let submitted = house.submitted.recv().await.unwrap();
    assert!(is_reward_signature_valid(&HASH, &submitted.signature, &house.identity.public_key()));
    assert_eq!(wanted_at.elapsed().as_millis() / 100, 2, "at the third try");
    assert_eq!(house.ended().await, [Outcome::Signed]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert!(house.submitted.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_counts_although_others_were_asked_for_meanwhile() {
    let mut house = House::start();
    let mut requests = house.bus.subscribe(&subjects::signature(&house.identity.public_key())).await.unwrap();
    house.signatures.handed_to_node(house.identity.public_key());
    house.want();
    let first = requests.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(450)).await;
    house.bus.publish(&first.reply_to.unwrap(), house.good().to_bytes().unwrap()).await.unwrap();
    assert!(house.submitted.recv().await.is_some());
    assert_eq!(house.ended().await, [Outcome::Signed]);
}

#[tokio::test(start_paused = true)]
async fn a_forged_signature_does_not_reach_the_node() {
    let mut house = House::start();
    house.plot_client(|_| Some(SigningAnswer::Signed { signature: [9; 64] })).await;
    house.signatures.handed_to_node(house.identity.public_key());
    house.want();
    assert_eq!(house.ended().await, [Outcome::Refused]);
    assert!(house.submitted.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_keys_whose_solutions_went_elsewhere_and_nobody_there_is_told() {
    let house = House::start();
    let asked = house.plot_client(|_| None).await;
    house.want();
    assert_eq!(house.ended().await, [Outcome::NotOurs]);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    house.signatures.handed_to_node(house.identity.public_key());
    house.want();
    tokio::time::sleep(Duration::from_millis(501)).await;
    assert_eq!(house.counts.signing.of(Outcome::Unanswered), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

async fn until_quiet(signatures: &Signatures) {
    while !signatures.is_quiet() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_to_end_waits_for_its_signatures() {
    let house = House::start();
    let began_at = Instant::now();
    assert!(house.signatures.is_quiet(), "nothing was handed to the node");
    house.signatures.handed_to_node(house.identity.public_key());
    let good = house.good();
    house.plot_client(move |_| Some(good.clone())).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!house.signatures.is_quiet());
    house.want();
    until_quiet(&house.signatures).await;
    assert_eq!(house.counts.signing.of(Outcome::Signed), 1);
    assert!(began_at.elapsed() < Duration::from_secs(8));
    house.signatures.handed_to_node(house.identity.public_key());
    let asked_at = Instant::now();
    until_quiet(&house.signatures).await;
    assert_eq!(asked_at.elapsed().as_secs(), 10, "not longer");
}
