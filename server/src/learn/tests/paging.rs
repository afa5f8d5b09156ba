//! Pages are the list in pieces.

use super::*;
use proptest::prelude::*;

/// Reads a list page by page.
macro_rules! read_all {
    ($limit:expr, |$page:ident| $read:expr) => {{
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let $page = Page { limit: $limit, after };
            let paged = $read.await.unwrap();
            assert!(paged.data.len() <= $limit);
            seen.extend(paged.data);
            after = paged.next;
            if after.is_none() {
                break seen;
            }
        }
    }};
}

#[test]
fn every_list_in_pages_of_any_size() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = Place::new();
    let learner = runtime.block_on(async {
        let learner = three_classes(&place).await;
        let added = fill(&learner, "daisy", 0, 12).await;
        learner.delete_example(DEFAULT_COLLECTION, "daisy", &added.examples[4].example.id).await.unwrap();
        for _ in 0..4 {
            train(&learner).await;
        }
        learner
    });
    let ids = |examples: Vec<Example>| examples.into_iter().map(|example| example.id).collect::<Vec<_>>();
    proptest!(ProptestConfig::with_cases(15), |(limit in 1_usize..15)| {
        runtime.block_on(async {
            let classes = read_all!(limit, |page| learner.classes(DEFAULT_COLLECTION, &page));
            assert_eq!(classes.iter().map(|class| class.id.as_str()).collect::<Vec<_>>(), ["daisy", "rose", "tulip"]);
            for (include_deleted, count) in [(false, 11), (true, 12)] {
                let examples = read_all!(limit, |page| {
                    learner.examples(DEFAULT_COLLECTION, "daisy", include_deleted, &page)
                });
                let whole = learner.examples(DEFAULT_COLLECTION, "daisy", include_deleted, &all()).await.unwrap();
                assert_eq!(examples.len(), count);
                assert_eq!(ids(examples), ids(whole.data));
            }
            let heads = read_all!(limit, |page| learner.heads(DEFAULT_COLLECTION, &page));
            assert_eq!(heads.iter().map(|head| head.version).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
            let jobs = read_all!(limit, |page| learner.jobs().list(&page));
            assert_eq!(jobs.len(), 4);
            assert!(jobs.is_sorted_by(|a, b| a.id > b.id), "newest first");
        });
    });
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let place = Place::new();
    let learner = three_classes(&place).await;
    let next = learner.classes(DEFAULT_COLLECTION, &Page { limit: 1, after: None }).await.unwrap().next;
    let page = Page { limit: 1, after: next };
    assert!(learner.classes(DEFAULT_COLLECTION, &page).await.is_ok());
    let refused = learner.examples(DEFAULT_COLLECTION, "daisy", false, &page).await;
    assert!(matches!(refused, Err(LearnError::InvalidCursor)));
    assert!(matches!(learner.jobs().list(&page).await, Err(LearnError::InvalidCursor)));
    assert!(matches!(learner.heads(DEFAULT_COLLECTION, &page).await, Err(LearnError::InvalidCursor)));
}
