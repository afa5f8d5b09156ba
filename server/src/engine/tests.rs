use super::*;
use dozen_models::image::{Filter, Resize, RgbImage};
use dozen_models::{Keep, Selection};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

/// Takes a while for each image.
struct Slow {
    fake: Arc<Fake>,
    each: Duration,
}

impl Backend for Slow {
    fn info(&self) -> &EncoderInfo {
        self.fake.info()
    }
    fn preprocessor(&self) -> &Preprocessor {
        self.fake.preprocessor()
    }
    fn embed(&self, crops: &[RgbImage], budget: &Budget) -> Result<Vec<Embedding>, String> {
        std::thread::sleep(self.each * crops.len() as u32);
        self.fake.embed(crops, budget)
    }
}

#[tokio::test]
async fn patient_images_go_in_pieces_that_meet_the_deadline() {
    let backend = Slow { fake: Fake::new(None), each: Duration::from_millis(300) };
    let options = EngineOptions { queue_timeout: Duration::from_millis(800), max_batch_size: 1, ..OPTIONS };
    let engine = Engine::start(Arc::new(backend), options).unwrap();
    let images: Vec<Bytes> = (1..=8).map(|number| picture(number, 2, 3)).collect();
    let hasty = engine.embed(images.clone(), Budget::default()).await;
    assert!(matches!(hasty, Err(EngineError::Deadline)), "eight take longer than a deadline");
    let results = engine.embed_patiently(&images, Budget::default()).await.unwrap();
    let colours: Vec<f32> = results.into_iter().map(|result| result.unwrap().embedding.vector[0]).collect();
    assert_eq!(colours, (1..=8).map(|number| number as f32).collect::<Vec<_>>());
}

/// Answers the mean colour of a crop, as a vector that is not normalised so that tests can tell images apart. Waits for
/// a word before each batch if given a gate, and panics on pure red.
pub(crate) struct Fake {
    pub(crate) info: EncoderInfo,
    preprocessor: Preprocessor,
    gate: Option<Mutex<mpsc::Receiver<()>>>,
    batches: Mutex<Vec<(usize, Budget)>>,
    embedded: AtomicUsize,
}

impl Fake {
    pub(crate) fn new(gate: Option<mpsc::Receiver<()>>) -> Arc<Self> {
        let info = EncoderInfo {
            name: "fake".to_owned(),
            id: "fake".to_owned(),
            dimensions: 3,
            image_size: 4,
            patch_size: 2,
            parameters: 0,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            agreement: None,
        };
        let preprocessor = Preprocessor {
            resize: Resize::Squash { size: 4 },
            filter: Filter::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        Arc::new(Self {
            info,
            preprocessor,
            gate: gate.map(Mutex::new),
            batches: Mutex::default(),
            embedded: AtomicUsize::new(0),
        })
    }
}

impl Backend for Fake {
    fn info(&self) -> &EncoderInfo {
        &self.info
    }
    fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }
    fn embed(&self, crops: &[RgbImage], budget: &Budget) -> Result<Vec<Embedding>, String> {
        if let Some(gate) = &self.gate {
            gate.lock().unwrap().recv().map_err(|error| error.to_string())?;
        }
        self.batches.lock().unwrap().push((crops.len(), *budget));
        self.embedded.fetch_add(crops.len(), Ordering::SeqCst);
        Ok(crops
            .iter()
            .map(|crop| {
                let colour: Vec<f32> = crop.pixels[..3].iter().map(|&value| f32::from(value)).collect();
                assert!(colour != [255.0, 0.0, 0.0], "red");
                Embedding { vector: colour, keep: 1.0, spread: None }
            })
            .collect())
    }
}

pub(crate) const OPTIONS: EngineOptions = EngineOptions {
    max_queue: 8,
    max_batch_size: 4,
    queue_timeout: Duration::from_secs(30),
    decode_threads: 1,
    intra_threads: 1,
    limits: Limits { max_bytes: 1 << 20, max_side: 64, max_pixels: 4096 },
};

/// A 4×4 BMP of one colour.
pub(crate) fn picture(red: u8, green: u8, blue: u8) -> Bytes {
    let mut bytes = Vec::from(*b"BM");
    bytes.extend(102u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54u32.to_le_bytes());
    bytes.extend(40u32.to_le_bytes());
    bytes.extend(4i32.to_le_bytes());
    bytes.extend(4i32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(24u16.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend([blue, green, red].repeat(16));
    bytes.into()
}

fn vectors(results: Vec<Result<Embedded, ImageError>>) -> Vec<Option<Vec<f32>>> {
    results.into_iter().map(|result| result.ok().map(|embedded| embedded.embedding.vector)).collect()
}

/// Waits until a condition holds that another thread brings about.
async fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition did not come about in 5 s");
}

#[tokio::test]
async fn answers_come_in_order_and_a_bad_image_fails_alone() {
    let engine = Engine::start(Fake::new(None), OPTIONS).unwrap();
    let images = vec![picture(1, 2, 3), Bytes::from_static(b"no image"), Bytes::new(), picture(4, 5, 6)];
    let results = engine.embed(images, Budget::default()).await.unwrap();
    assert_eq!(results[1].as_ref().unwrap_err(), &ImageError::UnsupportedFormat);
    assert_eq!(results[2].as_ref().unwrap_err(), &ImageError::Empty);
    assert_eq!(vectors(results), [Some(vec![1.0, 2.0, 3.0]), None, None, Some(vec![4.0, 5.0, 6.0])]);
    assert_eq!(engine.depth(), 0);
}

#[tokio::test]
async fn a_panicking_encoder_fails_its_batch_and_no_other() {
    let engine = Engine::start(Fake::new(None), OPTIONS).unwrap();
    let error = engine.embed(vec![picture(255, 0, 0)], Budget::default()).await.unwrap_err();
    assert!(matches!(&error, EngineError::Unavailable { reason } if reason.contains("red")), "{error:?}");
    let results = engine.embed(vec![picture(7, 8, 9)], Budget::default()).await.unwrap();
    assert_eq!(vectors(results), [Some(vec![7.0, 8.0, 9.0])]);
    assert_eq!(engine.depth(), 0);
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers_and_budgets_do_not_mix() {
    let (open, gate) = mpsc::channel();
    let fake = Fake::new(Some(gate));
    let engine = Engine::start(fake.clone(), OPTIONS).unwrap();
    let waiting: Vec<_> = [1.0, 0.5, 1.0, 0.5]
        .into_iter()
        .map(|keep| {
            let engine = engine.clone();
            let budget = Budget { keep: Keep::Share(keep), selection: Selection::Spread, masks: 1 };
            tokio::spawn(async move { engine.embed(vec![picture(1, 1, 1), picture(2, 2, 2)], budget).await })
        })
        .collect();
    eventually(|| engine.depth() == 8).await;
    let full = engine.embed(vec![picture(3, 3, 3)], Budget::default()).await.unwrap_err();
    assert!(matches!(full, EngineError::QueueFull { retry_after_seconds: 1.. }), "{full:?}");
    let many = engine.embed(vec![picture(3, 3, 3); 9], Budget::default()).await.unwrap_err();
    assert!(matches!(many, EngineError::TooManyImages { actual: 9, limit: 8 }), "{many:?}");

    for _ in 0..8 {
        open.send(()).unwrap();
    }
    for call in waiting {
        let results = call.await.unwrap().unwrap();
        assert_eq!(vectors(results), [Some(vec![1.0; 3]), Some(vec![2.0; 3])]);
    }
    assert_eq!(engine.depth(), 0);
    let batches = fake.batches.lock().unwrap();
    assert_eq!(batches.iter().map(|(size, _)| size).sum::<usize>(), 8);
    assert!(batches.iter().all(|&(size, _)| size <= 4));
    for keep in [0.5, 1.0] {
        let images: usize =
            batches.iter().filter(|batch| batch.1.keep == Keep::Share(keep)).map(|batch| batch.0).sum();
        assert_eq!(images, 4, "{batches:?}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_keeps_his_place_until_the_work_ends() {
    let (open, gate) = mpsc::channel();
    let fake = Fake::new(Some(gate));
    let engine = Engine::start(fake.clone(), EngineOptions { max_batch_size: 1, ..OPTIONS }).unwrap();
    let leaving = engine.clone();
    let call = tokio::spawn(async move { leaving.embed(vec![picture(1, 1, 1); 3], Budget::default()).await });
    eventually(|| engine.depth() == 3).await;
    // The first image is in the encoder by now, or about to be; the others wait behind it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    call.abort();
    let _ = call.await;
    assert_eq!(engine.depth(), 3, "admission counts work, not callers");
    open.send(()).unwrap();
    eventually(|| engine.depth() == 0).await;
    assert_eq!(fake.embedded.load(Ordering::SeqCst), 1, "what nobody waits for is not embedded");
}

#[tokio::test]
async fn images_that_waited_too_long_are_not_embedded() {
    let (open, gate) = mpsc::channel();
    let fake = Fake::new(Some(gate));
    let options = EngineOptions { queue_timeout: Duration::from_millis(20), max_batch_size: 1, ..OPTIONS };
    let engine = Engine::start(fake.clone(), options).unwrap();
    let first = engine.clone();
    let first = tokio::spawn(async move { first.embed(vec![picture(1, 1, 1)], Budget::default()).await });
    eventually(|| engine.depth() == 1).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let second = engine.clone();
    let second = tokio::spawn(async move { second.embed(vec![picture(2, 2, 2)], Budget::default()).await });
    eventually(|| engine.depth() == 2).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    open.send(()).unwrap();
    assert!(matches!(second.await.unwrap(), Err(EngineError::Deadline)));
    let _ = first.await.unwrap();
    assert!(fake.embedded.load(Ordering::SeqCst) <= 1);
}

#[tokio::test]
async fn shutting_down_finishes_what_was_admitted_and_refuses_the_rest() {
    let (open, gate) = mpsc::channel();
    let engine = Engine::start(Fake::new(Some(gate)), OPTIONS).unwrap();
    let admitted = engine.clone();
    let admitted =
        tokio::spawn(async move { admitted.embed(vec![picture(1, 2, 3)], Budget::default()).await });
    eventually(|| engine.depth() == 1).await;
    let closing = engine.clone();
    let closing = tokio::spawn(async move { closing.shutdown().await });
    eventually(|| engine.inner.draining.load(Ordering::Acquire)).await;
    let late = engine.embed(vec![picture(4, 5, 6)], Budget::default()).await.unwrap_err();
    assert!(matches!(late, EngineError::Unavailable { .. }), "{late:?}");
    assert!(!closing.is_finished());
    open.send(()).unwrap();
    assert_eq!(vectors(admitted.await.unwrap().unwrap()), [Some(vec![1.0, 2.0, 3.0])]);
    closing.await.unwrap();
}
