//! Reading, checking and documenting configurations.

use super::*;

const SHIPPED: &str = include_str!("../../configs/shipped-cpu.toml");

#[test]
fn the_shipped_configurations_parse_and_round_trip() {
    for text in [SHIPPED, include_str!("../../configs/default.toml")] {
        let config = Config::parse(text, &[]).unwrap();
        assert_eq!(Config::parse(&config.to_toml().unwrap(), &[]).unwrap(), config);
    }
}

#[track_caller]
fn refused(assignment: &str, expected: &str) {
    assert_eq!(Config::parse(SHIPPED, &[assignment.into()]).unwrap_err(), expected);
}

#[test]
fn an_unknown_key_is_named_with_its_section_and_the_nearest_known_one() {
    refused("loss.temprature=0.2", "there is no key `temprature` in [loss]; did you mean loss.temperature?");
    refused(
        "optimization.batch_size=8",
        "there is no key `batch_size` in [optimization]; did you mean optimisation.batch_size?",
    );
    refused(
        "run.batch_size=8",
        "there is no key `batch_size` in [run]; did you mean optimisation.batch_size?",
    );
    refused("data.qqqq=8", "there is no key `qqqq` in [data]");
    let unknown = SHIPPED.replace("log_steps", "log_stepz");
    let error = Config::parse(&unknown, &[]).unwrap_err();
    assert_eq!(error, "there is no key `log_stepz` in [run]; did you mean run.log_steps?");
}

#[test]
fn a_missing_key_is_named_with_an_example() {
    let missing = SHIPPED.replace("seed =", "# seed =");
    let error = Config::parse(&missing, &[]).unwrap_err();
    assert_eq!(error, "run.seed is missing; configs/default.toml has 0");
}

#[test]
fn an_impossible_value_is_named_with_what_is_allowed() {
    for (assignment, expected) in [
        ("views.patch_drop=1.0", "views.patch_drop = 1.0: must be a number, at least 0, below 1"),
        ("optimisation.learning_rate=nan", "optimisation.learning_rate = nan: must be a number, above 0"),
        ("optimisation.batch_size=1", "optimisation.batch_size = 1: must be a whole number, at least 2"),
        ("optimisation.batch_size=8.0", "optimisation.batch_size = 8.0: must be a whole number, at least 2"),
        ("run.seed=-1", "run.seed = -1: must be a whole number, at least 0"),
        ("loss.sinkhorn=1", "loss.sinkhorn = 1: must be true or false"),
        ("loss={}", "`loss={}` is not of the form section.key=value"),
        ("views.random_size=65", "views.random_size = 65: must be a multiple of model.patch_size = 8"),
        (
            "views.focal_area=[0.3, 0.1]",
            "views.focal_area = [0.3, 0.1]: must be two numbers, the smaller first, above 0, at most 1",
        ),
        (
            "views.masks=\"some\"",
            "views.masks = \"some\": must be one of \"batch\", \"rank\", \"image\", \"content\"",
        ),
        (
            "optimisation.warmup_epochs=13",
            "optimisation.warmup_epochs = 13: must be at most schedule.epochs = 12",
        ),
        (
            "loss.prior_exponent=0.25",
            "loss.prior_exponent = 0.25: needs loss.sinkhorn = false, which would enforce the uniform prior",
        ),
    ] {
        refused(assignment, expected);
    }
}

#[test]
fn overrides_take_effect() {
    let set = |assignment: &str| Config::parse(SHIPPED, &[assignment.into()]).unwrap();
    assert_eq!(set("optimisation.batch_size=8").optimisation.batch_size, 8);
    assert_eq!(set("views.distortion.blur_sigma=[0.5, 1.0]").views.distortion.blur_sigma, (0.5, 1.0));
    // A whole number will do where any number will.
    assert!((set("optimisation.clip_gradient=2").optimisation.clip_gradient - 2.0).abs() < 1e-12);
    refused("optimisation.batch_size", "`optimisation.batch_size` is not of the form section.key=value");
}

/// Every key of the structs is in the table, and the table has no other.
#[test]
fn the_table_knows_every_key() {
    fn paths(prefix: &str, value: &Value, found: &mut Vec<String>) {
        let Value::Object(members) = value else { return found.push(prefix.to_owned()) };
        for (name, value) in members {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            paths(&path, value, found);
        }
    }
    let config = Config::parse(SHIPPED, &[]).unwrap();
    let mut ours = Vec::new();
    paths("", &serde_json::to_value(&config).unwrap(), &mut ours);
    let mut known: Vec<&str> = keys::KEYS.iter().map(|key| key.path).collect();
    ours.sort_unstable();
    known.sort_unstable();
    assert_eq!(ours, known);
}

#[test]
fn the_page_is_up_to_date_and_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == documentation(),
        "docs/configuration.md is out of date: `cargo run -p dozen-trainer -- config docs > docs/configuration.md`"
    );
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, keys::KEYS.len());
    assert!(!page.contains("`none`"), "a key has no default");
    for line in page.lines().filter(|line| line.starts_with('|')) {
        assert_eq!(line.matches('|').count(), 5, "{line}");
    }
}

#[test]
fn conflicts_name_the_keys_that_matter() {
    let config = Config::parse(SHIPPED, &[]).unwrap();
    let other = Config::parse(SHIPPED, &["run.log_steps=99".into(), "loss.memax_weight=1.5".into()]).unwrap();
    assert_eq!(
        config.conflicts(&other),
        [format!("loss.memax_weight: {:?} here, 1.5 there", config.loss.memax_weight)]
    );
    assert!(config.conflicts(&config).is_empty());
}
