from written_study import cell, study_document

from rfray.analysis import expected_slots, missing, progress, read_frame


def gaps(frame):
    return [str(gap) for gap in missing(frame, expected_slots(frame))]


def test_every_planned_stage_of_every_cell_is_expected(write, ledger):
    document = study_document(prune={"rates": [0.5, 0.9]})
    writer = write(document)
    writer.run("train", cell(), {"test_accuracy": 90.0})

    frame = read_frame(ledger, writer.study)
    planned = {entry.stage: entry.planned for entry in progress(frame, expected_slots(frame))}

    assert planned == {
        "train": 4, "prune": 8, "finetune": 8, "hessian": 8, "cka": 2, "importance": 2
    }  # fmt: skip


def test_gaps_have_names_and_reasons(write, ledger):
    writer = write(study_document(hessian=None, cka=None, importance=None, kernel_size=[3]))
    train = writer.run("train", cell(k=3), {"test_accuracy": 90.0})
    writer.run("prune", {**cell(k=3), "rate": 0.9}, {"test_accuracy": 40.0}, parent=train)
    writer.run(
        "finetune", {**cell(k=3), "rate": 0.9}, status="FAILED", tags={"rfray.error": "NaN loss"}
    )
    writer.run("train", cell(k=3, seed=1), status="FAILED", tags={"rfray.error": "no memory"})

    found = gaps(read_frame(ledger, writer.study))

    assert found == [
        "vgg19_rf digits k=3 seed 1: train: failed: no memory",
        "vgg19_rf digits k=3 seed 1: prune 0.9: not run: its train failed",
        "vgg19_rf digits k=3 seed 0: finetune 0.9: failed: NaN loss",
        "vgg19_rf digits k=3 seed 1: finetune 0.9: not run: its train failed",
    ]


def test_latest_attempt_gives_the_reason(write, ledger):
    writer = write(study_document(seed=[0], kernel_size=[2], **NOTHING_ELSE))
    writer.run("train", cell(arch="vgg19_rf", k=2), status="FAILED")
    writer.run("train", cell(arch="vgg19_rf", k=2), status="RUNNING")

    (gap,) = gaps(read_frame(ledger, writer.study))

    assert gap.startswith("vgg19_rf digits k=2 seed 0: train: running since")


def test_width_is_named_where_several_are_swept(write, ledger):
    writer = write(study_document(seed=[0], kernel_size=[2], width=[0.125, 0.5], **NOTHING_ELSE))
    writer.run("train", cell(width=0.125), {"test_accuracy": 90.0})

    assert gaps(read_frame(ledger, writer.study)) == [
        "vgg19_rf digits k=2 width 0.5 seed 0: train: not run yet"
    ]


def test_cka_over_fewer_seeds_than_planned_is_a_gap(write, ledger):
    writer = write(study_document(seed=[0, 1, 2], kernel_size=[2], **{**NOTHING_ELSE, "cka": {}}))
    for seed in (0, 1, 2):
        writer.run("train", cell(seed=seed), {"test_accuracy": 90.0})
    group = {key: value for key, value in cell().items() if key != "seed"}
    writer.run("cka", {**group, "seeds": "[0, 1]"}, {"cka_diagonal_mean": 0.5})

    assert gaps(read_frame(ledger, writer.study)) == [
        "vgg19_rf digits k=2: cka: covers the seeds [0, 1], the study has [0, 1, 2]"
    ]


def test_cka_of_the_planned_seeds_counts_though_a_later_run_has_others(write, ledger):
    writer = write(study_document(seed=[0, 1, 2], kernel_size=[2], **{**NOTHING_ELSE, "cka": {}}))
    group = {key: value for key, value in cell().items() if key != "seed"}
    whole = writer.run("cka", {**group, "seeds": "[0, 1, 2]"}, {"cka_diagonal_mean": 0.5})
    writer.run("cka", {**group, "seeds": "[0, 1]"}, {"cka_diagonal_mean": 0.6})

    frame = read_frame(ledger, writer.study)

    assert list(frame.rows["run_id"]) == [whole]
    assert frame.left_out["reason"][0].endswith("it had seeds [0, 1], not [0, 1, 2]")


def test_cka_that_is_older_than_a_training_run_is_in_doubt(write, ledger):
    writer = write(study_document(kernel_size=[2], **{**NOTHING_ELSE, "cka": {}}))
    writer.run("train", cell(seed=0), {"test_accuracy": 90.0})
    group = {key: value for key, value in cell().items() if key != "seed"}
    writer.run("cka", {**group, "seeds": "[0, 1]"}, {"cka_diagonal_mean": 0.5})
    writer.run("train", cell(seed=1), {"test_accuracy": 90.0})

    assert gaps(read_frame(ledger, writer.study)) == [
        "vgg19_rf digits k=2: cka: is older than the training of seed 1, so maybe outdated"
    ]


def test_one_seed_plans_no_cka(write, ledger):
    writer = write(study_document(seed=[0], kernel_size=[2], **{**NOTHING_ELSE, "cka": {}}))
    writer.run("train", cell(), {"test_accuracy": 90.0})

    assert gaps(read_frame(ledger, writer.study)) == []


def test_without_a_document_the_product_of_what_was_seen_is_expected(write, ledger):
    writer = write()
    first = writer.run("train", cell(k=2, seed=0), {"test_accuracy": 90.0})
    writer.run("train", cell(k=3, seed=1), {"test_accuracy": 90.0})
    for rate in (0.5, 0.9):
        writer.run("prune", {**cell(k=2), "rate": rate}, {"test_accuracy": 80.0}, parent=first)

    frame = read_frame(ledger, writer.study)
    planned = {entry.stage: entry.planned for entry in progress(frame, expected_slots(frame))}

    assert planned == {"train": 4, "prune": 8}
    assert "vgg19_rf digits k=2 seed 1: train: not run yet" in gaps(frame)


def test_runs_beyond_the_plan_are_known_as_such(write, ledger):
    writer = write(study_document(seed=[0], kernel_size=[2], **NOTHING_ELSE))
    writer.run("train", cell(seed=0), {"test_accuracy": 90.0})
    writer.run("train", cell(seed=7), {"test_accuracy": 90.0})

    frame = read_frame(ledger, writer.study)

    assert [slot.seed for slot in expected_slots(frame).beyond] == [7]


def test_stage_that_the_schema_does_not_know_is_expected_on_every_cell(write, ledger):
    document = study_document(kernel_size=[2], **NOTHING_ELSE)
    writer = write({**document, "distil": {"epochs": 1}, "resources": {"cpus": 2}})
    writer.run("train", cell(seed=0), {"test_accuracy": 90.0})
    writer.run("train", cell(seed=1), {"test_accuracy": 90.0})
    writer.run("distil", {**cell(seed=0), "epochs": 1}, {"gap": 1.0})

    assert gaps(read_frame(ledger, writer.study)) == [
        "vgg19_rf digits k=2 seed 1: distil: not run yet"
    ]


NOTHING_ELSE = dict.fromkeys(("prune", "finetune", "hessian", "cka", "importance"))
