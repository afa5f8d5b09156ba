//! Readiness and audits.

use super::*;
use crate::learn::{AuditRequest, Finding, Resolution};

#[tokio::test]
async fn readiness_says_what_is_known_of_each_class() {
    let place = Place::new();
    let learner = place.open().await;
    let nothing = learner.readiness(DEFAULT_COLLECTION, 4).await.unwrap();
    assert_eq!((nothing.examples, nothing.classes.len()), (0, 0));
    assert!(nothing.verdict.contains("nothing can be judged yet"), "{}", nothing.verdict);
    fill(&learner, "daisy", 0, 6).await;
    let alone = learner.readiness(DEFAULT_COLLECTION, 4).await.unwrap();
    assert!(alone.verdict.contains("one class only"), "{}", alone.verdict);
    fill(&learner, "rose", 1, 6).await;
    fill(&learner, "tulip", 2, 1).await;
    let ready = learner.readiness(DEFAULT_COLLECTION, 4).await.unwrap();
    assert_eq!((ready.examples, ready.overall.judged, ready.overall.right), (13, 12, 12));
    let [daisy, rose, tulip] = &ready.classes[..] else { panic!("three classes") };
    assert_eq!((daisy.class.as_str(), daisy.examples, daisy.accuracy.right), ("daisy", 6, 6));
    assert_eq!(rose.forecast.unwrap().more, 4);
    assert!(tulip.forecast.is_none() && tulip.verdict.contains("cannot be judged yet"), "{}", tulip.verdict);
    train(&learner).await;
    let trained = learner.readiness(DEFAULT_COLLECTION, 4).await.unwrap();
    assert_eq!((trained.head.version, trained.overall.right), (1, 12), "by the head in use");
}

/// Three classes of seven, one rose among the daisies, and one picture twice.
async fn muddled(place: &Place) -> Learner {
    let learner = place.open().await;
    for (axis, class) in ["daisy", "rose", "tulip"].into_iter().enumerate() {
        fill(&learner, class, axis, 7).await;
    }
    // Between two roses, and not the same as any.
    let between = towards(1, 2).iter().zip(towards(1, 3)).map(|(a, b)| a + b).collect();
    let rose = NewExample { vector: between, ..image("a rose", 1, 0) };
    learner.add_examples(DEFAULT_COLLECTION, "daisy", vec![rose]).await.unwrap();
    learner.add_examples(DEFAULT_COLLECTION, "tulip", vec![image("copy", 2, 3)]).await.unwrap();
    learner
}

async fn audit(learner: &Learner) -> (String, Vec<Finding>) {
    let job = learner.audit(DEFAULT_COLLECTION, AuditRequest { near_duplicate: 0.999_99 }).await.unwrap();
    let job = ended(learner, &job.id).await;
    assert_eq!((job.status, job.scope.as_str()), (JobStatus::Succeeded, "audit"), "{:?}", job.error);
    let findings = learner.findings(&job.id, false, &all()).await.unwrap().data;
    assert_eq!(job.result.unwrap()["findings"], findings.len());
    (job.id, findings)
}

fn of_kind<'a>(findings: &'a [Finding], kind: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.kind == kind).unwrap_or_else(|| panic!("no {kind}: {findings:?}"))
}

#[tokio::test]
async fn findings_are_mended_in_one_call_and_once() {
    let place = Place::new();
    let learner = muddled(&place).await;
    let (job, findings) = audit(&learner).await;
    let mislabel = of_kind(&findings, "mislabel");
    assert_eq!((mislabel.action.as_str(), mislabel.to.as_deref()), ("move", Some("rose")));
    assert_eq!(mislabel.examples[0].class, "daisy");
    let moved = learner.resolve_finding(&job, mislabel.number, Resolution::Move { to: None }).await.unwrap();
    assert_eq!((moved.resolution.as_deref(), moved.examples[0].class.as_str()), (Some("moved"), "rose"));
    assert!(matches!(
        learner.resolve_finding(&job, mislabel.number, Resolution::Delete).await,
        Err(LearnError::FindingResolved { .. })
    ));
    let copy = of_kind(&findings, "exact_duplicate");
    assert_eq!((copy.action.as_str(), copy.examples.len(), copy.evidence.len()), ("delete", 1, 1));
    let deleted = learner.resolve_finding(&job, copy.number, Resolution::Delete).await.unwrap();
    assert!(deleted.examples[0].deleted && !deleted.evidence[0].deleted);
    assert_eq!(learner.class(DEFAULT_COLLECTION, "rose").await.unwrap().count, 8);
    assert_eq!(learner.class(DEFAULT_COLLECTION, "tulip").await.unwrap().count, 7);
    let open = learner.findings(&job, true, &all()).await.unwrap().data;
    assert_eq!(open.len() + 2, findings.len());

    let place = (place, learner.close().await).0;
    let learner = place.open().await;
    assert_eq!(learner.class(DEFAULT_COLLECTION, "rose").await.unwrap().count, 8, "it is on disk");
    let (_, again) = audit(&learner).await;
    assert!(again.iter().all(|finding| finding.kind != "mislabel" && finding.kind != "exact_duplicate"));
}

#[tokio::test]
async fn an_accepted_finding_is_not_made_again() {
    let place = Place::new();
    let learner = muddled(&place).await;
    let (job, findings) = audit(&learner).await;
    let number = of_kind(&findings, "mislabel").number;
    learner.resolve_finding(&job, number, Resolution::Accept).await.unwrap();
    assert_eq!(learner.class(DEFAULT_COLLECTION, "daisy").await.unwrap().count, 8);
    let (_, again) = audit(&learner).await;
    assert!(again.iter().all(|finding| finding.kind != "mislabel"), "{again:?}");
    of_kind(&again, "exact_duplicate");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let place = Place::new();
    let learner = muddled(&place).await;
    let training = train(&learner).await;
    assert!(matches!(
        learner.findings(&training.id, false, &all()).await,
        Err(LearnError::UnknownJob { .. })
    ));
    let (job, findings) = audit(&learner).await;
    assert!(matches!(
        learner.resolve_finding(&job, 99, Resolution::Accept).await,
        Err(LearnError::UnknownFinding { number: 99, .. })
    ));
    let copy = of_kind(&findings, "exact_duplicate").number;
    assert!(matches!(
        learner.resolve_finding(&job, copy, Resolution::Move { to: None }).await,
        Err(LearnError::NowhereToMove { .. })
    ));
    let empty = learner.audit("elsewhere", AuditRequest::default()).await.unwrap();
    assert_eq!(ended(&learner, &empty.id).await.error.unwrap()["code"], "too_few_classes");
}
