//! The cluster file in the hands of somebody hostile: every text field of the table with every value of the corpus, the
//! reader with any text at all. Nothing is taken, nothing steers a terminal, nothing takes long.

use muster_proto::coordinator;
use muster_proto::hostile::{PIECES, is_showable, short_values, values};
use proptest::prelude::*;
use serde_json::json;

use super::super::fields::{CLUSTER, Field, Form};
use super::super::{ClusterSpec, Problem, Problems};
use super::table::{every, with};
use super::{GOOD, enrolled, files, problems};

/// What the problem reads like where it is shown, after its way over the socket.
fn shown(problem: &Problem) -> String {
    let list = vec![problem.clone()];
    Problems::from(coordinator::Problems::from(Problems { file: "cluster.yaml".into(), list })).to_string()
}

/// Calls with the parents, the field and the form of every text of the table, in a list or by itself.
fn every_text(look: &mut impl FnMut(&[&str], &'static Field, &'static Form)) {
    every(&CLUSTER, &[], &mut |parents, field| match &field.form {
        Form::Fields(_) | Form::List(Form::Fields(_)) => {}
        Form::List(item) => look(parents, field, item),
        form => look(parents, field, form),
    });
}

#[test]
fn every_text_field_of_the_file_refuses_every_hostile_value() {
    let mut fields = 0;
    let corpus: Vec<String> = values().collect();
    every_text(&mut |parents, field, form| {
        fields += 1;
        for hostile in &corpus {
            let name = || format!("{}: {:?}", field.name, hostile.chars().take(40).collect::<String>());
            let refusal = form.refusal(hostile, true);
            if hostile.len() < 1_000_000 {
                let value =
                    if matches!(field.form, Form::List(_)) { json!([hostile]) } else { json!(hostile) };
                let file = with(parents, field.name, Some(value));
                let parsed = ClusterSpec::parse(&files(&file), &enrolled());
                let found = parsed.err().unwrap_or_else(|| panic!("{} was taken", name())).list;
                assert!(found.iter().all(|problem| is_showable(&shown(problem))), "{}", name());
            } else {
                // The field's own parser alone: that a file of this size is refused has a test of its own.
                let refusal = refusal.unwrap_or_else(|| panic!("{} was taken", name()));
                assert!(is_showable(&refusal), "{}", name());
            }
        }
    });
    assert!(fields > 12, "{fields} fields");
}

#[test]
fn a_hostile_name_of_a_field_is_refused_and_shown_without_harm() {
    every(&CLUSTER, &[], &mut |parents, _| {
        for hostile in short_values() {
            let found = problems(&with(parents, &hostile, Some(json!("x"))));
            assert!(found.iter().all(|problem| is_showable(&shown(problem))), "{parents:?}");
        }
    });
}

#[test]
fn a_whole_file_that_is_hostile_is_refused_in_a_few_sentences() {
    for hostile in short_values().chain(values().last()) {
        let found = problems(&hostile);
        assert!(found.len() <= 40 && found.iter().all(|problem| is_showable(&shown(problem))), "{found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_text_anywhere_in_a_good_file_does_no_harm(
        place in any::<prop::sample::Index>(),
        cut in 0..40_usize,
        text in prop_oneof![
            any::<String>(),
            prop::sample::select(PIECES).prop_map(str::to_owned),
            "[\\[\\]{}:,&*!|>'\"#\\- \n\ta-z0-9]{0,60}",
        ],
    ) {
        let places: Vec<usize> = GOOD.char_indices().map(|(at, _)| at).collect();
        let (begin, end) = (place.index(places.len()), place.index(places.len()) + cut);
        let rest = places.get(end).map_or("", |at| &GOOD[*at..]);
        let file = format!("{}{text}{rest}", &GOOD[..places[begin]]);
        match ClusterSpec::parse(&files(&file), &enrolled()) {
            Ok(spec) => prop_assert!(spec.nodes().count() >= 1),
            Err(found) => {
                prop_assert!(!found.list.is_empty());
                for problem in &found.list {
                    prop_assert!(is_showable(&shown(problem)), "{:?}", problem);
                }
            }
        }
    }
}
