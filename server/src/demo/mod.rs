//! `dozen demo`: the main job by itself. Starts the server on a free port, labels a dozen photos per class over HTTP,
//! classifies the rest, puts them into the pool, trains, classifies again, and says what came of it.

mod client;
mod photos;
mod report;

use crate::app;
use crate::config::Config;
use anyhow::{Context, Result, bail};
use client::{Client, Prediction};
use photos::ClassPhotos;
use std::path::PathBuf;

/// Labelled photos per class: what the project is named after.
const LABELLED: usize = 12;
/// Images per call, well under the server's default limit.
const CALL: usize = 32;

/// Options of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArguments {
    /// A folder with one subfolder of images per class; the shipped photos of clothing when not given.
    #[arg(long)]
    images: Option<PathBuf>,
}

/// What one class's unlabelled photos were taken for, by each head.
struct ClassOutcome {
    class: String,
    labelled: usize,
    prototype: Vec<Prediction>,
    trained: Vec<Prediction>,
    names: Vec<String>,
}

/// Runs the demo on a server of its own, with a data directory that is thrown away afterwards.
pub async fn run(arguments: DemoArguments, mut config: Config) -> Result<()> {
    let classes = match &arguments.images {
        Some(folder) => photos::from_folder(folder)?,
        None => photos::shipped(),
    };
    if classes.len() < 2 {
        bail!("at least two classes are needed: give a folder with one subfolder of images per class");
    }
    let data = DataDirectory::create()?;
    config.data_dir = data.path.clone();
    config.hostname = "127.0.0.1".into();
    config.port = 0;
    config.api_keys.clear();
    let server = app::start(config).await.context("starting the server")?;
    let client = Client::new(&format!("http://{}", server.address));
    let outcomes = label_and_classify(&client, &classes).await;
    server.shutdown().await;
    report::print(&outcomes?, arguments.images.as_deref());
    Ok(())
}

async fn label_and_classify(client: &Client, classes: &[ClassPhotos]) -> Result<Vec<ClassOutcome>> {
    report::say(&format!("Server on {}: {}", client.base(), client.model().await?));
    for class in classes {
        for call in class.labelled(LABELLED).chunks(CALL) {
            client.add_examples(&class.slug, call).await?;
        }
    }
    report::say(&format!(
        "Labelled up to {LABELLED} photos in each of {} classes. Classifying the rest …",
        classes.len()
    ));
    let prototype = classify_rest(client, classes).await?;
    for class in classes {
        for call in class.rest(LABELLED).chunks(CALL) {
            client.add_images(call).await?;
        }
    }
    let training = client.train().await?;
    report::say(&format!("Put the rest into the pool and trained: {training}. Classifying again …"));
    let trained = classify_rest(client, classes).await?;
    let outcomes =
        classes.iter().zip(prototype).zip(trained).map(|((class, prototype), trained)| ClassOutcome {
            class: class.slug.clone(),
            labelled: class.labelled(LABELLED).len(),
            prototype,
            trained,
            names: class.rest(LABELLED).iter().map(|photo| photo.name.clone()).collect(),
        });
    Ok(outcomes.collect())
}

async fn classify_rest(client: &Client, classes: &[ClassPhotos]) -> Result<Vec<Vec<Prediction>>> {
    let mut predictions = Vec::with_capacity(classes.len());
    for class in classes {
        let mut of_class = Vec::new();
        for call in class.rest(LABELLED).chunks(CALL) {
            of_class.extend(client.classify(call).await?);
        }
        predictions.push(of_class);
    }
    Ok(predictions)
}

/// A folder under the system's temporary directory, removed on drop.
struct DataDirectory {
    path: PathBuf,
}

impl DataDirectory {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("dozen-demo-{}", ulid::Ulid::generate()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // Nothing to tell anyone if it fails: the system clears its temporary directory.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
