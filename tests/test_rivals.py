"""AADA, ASS and WDA: scores, losses and steps by hand; budgets."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import NATIVE, write_split
from test_methods import (
    CLASSES,
    DISCRIMINATOR_RATE,
    SHIFTS,
    adversarial_by_hand,
    assert_same,
    cross_entropy,
    descend,
    levelled,
    material,
    random_labels,
)
from torch.nn import functional as F

from labor_lib.annotation.oracle import Oracle
from labor_lib.config import changed
from labor_lib.errors import InputError
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.methods.aada import aada_step
from labor_lib.methods.ass import ass_step
from labor_lib.methods.classwise import class_domain_loss
from labor_lib.methods.registry import METHODS, resolve
from labor_lib.methods.wda import smooth_max, tag_loss, tags_of, wda_points_step, wda_tags_step
from labor_lib.nets.discriminator import ClassDiscriminator, OutputDiscriminator
from labor_lib.selection.candidates import Candidates
from labor_lib.selection.images import IMAGE_SCORES, aada, whole_images
from labor_lib.selection.record import Selection
from labor_lib.selection.select import select
from labor_lib.train import segmentation_batches

CLASS_WEIGHT, TAG_WEIGHT = 0.7, 0.9  # large, so that a wrong one shows


# ------------------------------------------------------------------------------- whole images
def test_aada_by_a_loop():
    torch.manual_seed(0)
    probs, z = torch.randn(3, 4, 6).softmax(0), 2 * torch.randn(2, 3)
    image = Candidates(probs, probs, 0, compute_domain_logits=lambda: z)
    source = sum(1 / (1 + math.exp(v)) for v in z.flatten().tolist()) / 6  # 1 for the target
    entropy = -sum(p * math.log(p) for p in probs.flatten().tolist()) / 24
    assert aada(image).item() == pytest.approx((1 - source) / source * entropy, rel=1e-4)
    more = Candidates(probs, probs, 0, compute_domain_logits=lambda: z + 1)
    assert aada(more) > aada(image)  # less like the source


@pytest.mark.parametrize(
    ("share", "images", "number"),
    [(0.0, 7, 1), (0.3, 7, 2), (0.5, 7, 4), (1.0, 7, 7), (0.01, 9, 1)],
)
def test_the_budget_of_a_split_buys_whole_images(share, images, number):
    size = (10, 20)
    scores = np.random.default_rng(0).random(images)
    asked = whole_images(scores, round(share * 200), Selection.nothing(images, size))
    assert [len(one) for one in asked].count(200) == number
    assert sum(map(len, asked)) == 200 * number
    chosen = [i for i, one in enumerate(asked) if len(one)]
    assert chosen == sorted(np.argsort(-scores)[:number].tolist())
    np.testing.assert_array_equal(asked[chosen[0]], np.arange(200))


def test_no_image_is_asked_twice_and_ties_go_to_the_first():
    taken = Selection.nothing(5, (2, 3))
    rounds = []
    for _ in range(4):
        asked = whole_images([0.1, 0.9, 0.5, 0.5, 0.5], 3, taken)  # 2.5 images, so 2
        rounds.append([i for i, one in enumerate(asked) if len(one)])
        answers = [np.zeros(len(one), np.uint8) for one in asked]
        taken = taken.merge(Selection((2, 3), asked, answers))
    assert rounds == [[1, 2], [3, 4], [0], []]


@pytest.mark.parametrize("levels", [1, 2])
def test_select_asks_the_images_that_aada_ranks_highest(
    fabric, tiny, segmenter, make_folder, levels
):
    """Scores from the pictures' own pixels; the discriminator sees what it sees in training."""
    config = changed(tiny, adversarial={"level_weights": (0.1,) * levels})
    target = make_folder(count=12, labels=False)
    discriminator = OutputDiscriminator(14, (8,))
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(8)  # images differ
    expected = []
    for i in range(12):
        image = (target.image(i).float() / 255 - 0.45) / 0.25
        with torch.no_grad():
            logits = segmenter(image[None])[0]
            full = F.interpolate(logits, (16, 32), mode="bilinear")
            z = discriminator((full if levels == 2 else logits).softmax(1))
        source = (1 - z.sigmoid()).mean()
        p = full.softmax(1)
        expected.append(float((1 - source) / source * -(p * (p + 1e-6).log()).sum(1).mean()))
    seen = []
    discriminator.register_forward_hook(lambda *_: seen.append(1))
    settings = {"budget": 128, "taken": Selection.nothing(12, (16, 32)), "seed": 3}
    for rule, calls in (("random_images", 0), ("margin", 0), ("aada", 12)):
        asked, _ = select(
            fabric, segmenter, target, config,
            rule=rule, discriminator=discriminator, **settings,
        )  # fmt: skip
        assert len(seen) == calls
    found = [i for i, one in enumerate(asked.positions) if len(one)]
    assert found == sorted(np.argsort(expected)[-3:].tolist())
    assert set(IMAGE_SCORES) == {m.rule for m in METHODS.values() if m.sees == "few"}


def test_labelled_images_have_a_batch_of_their_own(fabric, tiny, make_folder):
    """The other batches stay as they are."""
    folder, config = make_folder(count=6), changed(tiny, train={"flip": True})

    def batches(labelled):
        torch.manual_seed(0)
        whole = segmentation_batches(
            fabric, config, folder, folder, folder.label, steps=5, seed=2, labelled=labelled
        )
        found = []
        for number, batch in enumerate(whole(0)):
            found.append(batch)
            torch.manual_seed(number)  # as the loop does
        return found

    data = config.data
    pictures = {i: (folder.image(i) / 255 - data.mean[0]) / data.std[0] for i in range(6)}
    for one, two in zip(batches([4, 1]), batches([]), strict=True):
        assert torch.equal(one.source_images, two.source_images)
        assert torch.equal(one.target_images, two.target_images)
        assert two.labelled_images is None
        for image, label in zip(one.labelled_images, one.labelled_labels, strict=True):
            same = [
                (i, flip)
                for i, picture in pictures.items()
                for flip in (False, True)
                if torch.allclose(image, picture.flip(-1) if flip else picture, atol=1e-5)
            ]
            assert {i for i, _ in same} <= {4, 1}
            ((i, flip),) = same
            own = folder.label(i)
            assert torch.equal(label, (own.flip(-1) if flip else own).long())


# ------------------------------------------------------------------------------------- losses
def test_pooled_prediction_and_tag_loss_by_loops():
    torch.manual_seed(1)
    logits, tags = 3 * torch.randn(2, 3, 2, 4), torch.tensor([[1, 0, 1], [0, 0, 1]]).bool()
    losses = []
    for b in range(2):
        for c in range(3):
            values = logits[b, c].flatten().tolist()
            for k in (1.0, 5.0):
                pooled = math.log(sum(math.exp(k * v) for v in values) / 8) / k
                assert smooth_max(logits, k)[b, c].item() == pytest.approx(pooled, rel=1e-5)
                assert np.mean(values) <= pooled <= max(values)
            p = 1 / (1 + math.exp(-math.log(sum(map(math.exp, values)) / 8)))
            losses.append(-math.log(p if tags[b, c] else 1 - p))
    assert tag_loss(logits, tags).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_tags_are_the_classes_of_labelled_pixels():
    labels = torch.tensor([[[255, 2], [2, 0]], [[255, 255], [255, 255]]])
    assert tags_of(labels, 3).tolist() == [[True, False, True], [False] * 3]


def test_class_domain_loss_by_loops():
    torch.manual_seed(4)
    z, there = torch.randn(3, 4), torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()
    for domain in (0.0, 1.0):
        of_images = []
        for b in (0, 2):
            sign = 1 if domain == 1.0 else -1
            terms = [math.log(1 + math.exp(-sign * v)) for v in z[b][there[b]].tolist()]
            of_images.append(np.mean(terms))
        found = class_domain_loss(z, there, domain).item()
        assert found == pytest.approx(np.mean(of_images), rel=1e-5)
    assert class_domain_loss(z, torch.zeros_like(there), 1.0) == 0


def test_every_class_has_a_discriminator_of_its_own():
    torch.manual_seed(5)
    net, vectors = ClassDiscriminator(3, 4), torch.randn(2, 3, 4, requires_grad=True)
    found = net(vectors)
    assert found.shape == (2, 3)
    for c in range(3):
        x = vectors[:, c]
        for layer in (net[0], net[2]):
            x = F.relu(x @ layer.weight[4 * c : 4 * c + 4, :, 0].T + layer.bias[4 * c : 4 * c + 4])
        x = x @ net[4].weight[c : c + 1, :, 0].T + net[4].bias[c]
        torch.testing.assert_close(found[:, c], x[:, 0])
    (gradient,) = torch.autograd.grad(found[:, 1].sum(), vectors)
    assert not gradient[:, [0, 2]].any()
    assert gradient[:, 1].any()


# -------------------------------------------------------------------------------------- steps
def rival(tiny, levels=1):
    """`material`, class discriminators and a labelled batch."""
    config, nets, opts, batch = material(tiny, levels)
    rivals = {"class_weight": CLASS_WEIGHT, "tag_weight": TAG_WEIGHT}
    nets["class_discriminator"] = net = ClassDiscriminator(CLASSES, 8)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)  # alive
            parameter.grad = torch.ones_like(parameter)
    opts["class_discriminator"] = torch.optim.SGD(net.parameters(), DISCRIMINATOR_RATE)
    batch.labelled_images = torch.randn(2, 3, 16, 24)
    batch.labelled_labels = random_labels((2, 16, 24), 7)
    batch.labelled_labels[0][batch.labelled_labels[0] == 2] = 255  # a class that is not there
    return changed(config, rivals=rivals), nets, opts, batch


def means_by_hand(features, labels):
    """One (vector, class) list an image."""
    stride = labels.shape[-1] // features.shape[-1]
    small = labels[:, ::stride, ::stride]
    return [
        [(f[:, own == c].mean(1), c) for c in own.unique().tolist() if c != 255]
        for f, own in zip(features, small, strict=True)
    ]


def attended_by_hand(features, logits, labels):
    found = []
    for f, z, own in zip(features, logits, labels, strict=True):
        weights = z.detach().exp() / z.detach().exp().sum((1, 2), keepdim=True)
        classes = [c for c in own.unique().tolist() if c != 255]
        found.append([((f * weights[c]).sum((1, 2)), c) for c in classes])
    return found


def judged(net, vectors, sign):
    """Softplus of the own class's discriminator, mean over classes, then images."""
    means = []
    for image in vectors:
        terms = []
        for vector, c in image:
            place = torch.zeros(1, CLASSES, 8).index_put((torch.tensor(0), torch.tensor(c)), vector)
            terms.append(F.softplus(sign * net(place)[0, c]))
        means.append(torch.stack(terms).mean())
    return torch.stack(means).mean()


@pytest.mark.parametrize("step", [ass_step, wda_tags_step, wda_points_step])
def test_classwise_steps_by_hand(fabric, tiny, step):
    config, nets, opts, batch = rival(tiny)
    expected = copy.deepcopy(nets)
    judge, segmenter = expected.pop("class_discriminator"), expected["segmenter"]
    seen, kept = [], {}
    segmenter.classifier.register_forward_hook(lambda _, i, o: seen.append((i[0], o)))

    def on_target(target):
        if step is ass_step:
            levels = segmenter(batch.labelled_images)
            loss = 0.6 * levelled(levels, batch.labelled_labels)
            kept["source"] = means_by_hand(seen[0][0], batch.source_labels)
            kept["target"] = means_by_hand(seen[2][0], batch.labelled_labels)
        else:
            tags = tags_of(batch.target_labels, CLASSES).float()
            pooled = target[0].exp().mean((2, 3)).log().sigmoid()
            loss = TAG_WEIGHT * F.binary_cross_entropy(pooled, tags)
            if step is wda_points_step:
                loss = loss + cross_entropy(target[0], batch.target_labels)
            kept["source"] = attended_by_hand(*seen[0], batch.source_labels)
            kept["target"] = attended_by_hand(*seen[1], batch.target_labels)
        kept["loss"] = judged(judge, kept["target"], +1)  # taken for the source, which is 0
        return loss + CLASS_WEIGHT * kept["loss"]

    losses = step(fabric, nets, opts, batch, config)
    wanted = adversarial_by_hand(expected, batch, SHIFTS[1], on_target)
    held = {
        name: [[(v.detach(), c) for v, c in image] for image in kept[name]]
        for name in ("source", "target")
    }
    of_judge = (judged(judge, held["source"], +1) + judged(judge, held["target"], -1)) / 2
    descend(of_judge, judge.parameters(), DISCRIMINATOR_RATE)
    names = ("source", "adversarial", "discriminator", "class_adversarial", "class_discriminator")
    assert [losses[name] for name in names] == pytest.approx(
        [*wanted, kept["loss"].item(), of_judge.item()], rel=1e-4
    )
    assert_same(nets, expected | {"class_discriminator": judge})


def test_aada_step_is_labors_with_images_of_its_own(fabric, tiny):
    config, nets, opts, batch = rival(tiny, levels=2)
    del nets["class_discriminator"]
    expected = copy.deepcopy(nets)
    aada_step(fabric, nets, opts, batch, config)

    def on_target(_):
        return 0.6 * levelled(expected["segmenter"](batch.labelled_images), batch.labelled_labels)

    adversarial_by_hand(expected, batch, SHIFTS[2], on_target)
    assert_same(nets, expected)


@pytest.mark.parametrize(("step", "same"), [(wda_tags_step, True), (wda_points_step, False)])
def test_tags_have_no_place(fabric, tiny, step, same):
    """Of the tags' pixels nothing but the class is used."""
    outcomes = []
    for turned in (False, True):
        config, nets, opts, batch = rival(tiny)
        if turned:
            batch.target_labels = batch.target_labels.flip(1)
        step(fabric, nets, opts, batch, config)
        outcomes.append(nets["segmenter"].state_dict())
    equal = all(torch.equal(a, b) for a, b in zip(*(o.values() for o in outcomes), strict=True))
    assert equal == same


# --------------------------------------------------------------------------------------- runs
def test_a_person_points_at_each_class_once(make_folder):
    folder = make_folder(count=3)
    oracle = Oracle(lambda: folder)
    one, again, other = (oracle.one_of_each_class(seed) for seed in (1, 1, 2))
    for i in range(3):
        truth = folder.label(i).numpy().reshape(-1)
        said = truth[one.positions[i]].tolist()
        assert sorted(said) == sorted(set(truth.tolist()) - {255})
        assert one.positions[i].tolist() == again.positions[i].tolist()
    assert any(
        a.tolist() != b.tolist() for a, b in zip(one.positions, other.positions, strict=True)
    )


@pytest.fixture
def roots(tmp_path):
    source = write_split(tmp_path / "source", "gta5", "train", 5)
    for split in ("train", "val"):
        target = write_split(tmp_path / "target", "cityscapes", split, 7)
    return Roots(tmp_path, source, target)


def phases(tiny, fabric, roots, out, **settings):
    config = changed(tiny, data={"embedded": False}, evaluate_on="val")
    return SegmentationPhases(config, out, roots, fabric, **settings)


def test_what_rivals_pay(fabric, tmp_path, tiny, roots):
    """Whole images, one a stage at the least; tags once, without a pixel; a point of each class."""
    names = ["random_images", "aada", "ass", "wda_tags", "wda_points"]
    table = phases(tiny, fabric, roots, tmp_path / "run").run(resolve(names), [0])
    paid = {name: rows.set_index("stage") for name, rows in table.groupby("method")}
    height, width = NATIVE
    for name in names[:3]:
        assert paid[name]["pixels_per_image"].tolist() == pytest.approx(
            [n * height * width / 7 for n in (1, 2, 3)]
        )
        known = Selection.nothing(7, NATIVE)
        for stage in (1, 2, 3):
            path = tmp_path / f"run/seed0/{name}/stage{stage}/selection.npz"
            known = known.merge(Selection.load(path))
        assert sorted(map(len, known.positions)) == [0] * 4 + [height * width] * 3
    first = [tmp_path / f"run/seed0/{name}/stage1/selection.npz" for name in (names[0], "ass")]
    assert first[0].read_bytes() == first[1].read_bytes()  # they differ by the adversary alone
    assert not paid["wda_tags"]["pixels_per_image"].any()
    for name, seconds in (("wda_tags", 30), ("wda_points", 45)):
        assert paid[name]["clicks_per_image"].nunique() == 1
        assert paid[name]["clicks_per_image"].iloc[0] > 4
        assert paid[name]["seconds_per_image"].tolist() == [seconds] * 3
    points = paid["wda_points"]
    assert points["pixels_per_image"].tolist() == points["clicks_per_image"].tolist()


def test_people_are_not_asked_what_their_sheet_cannot_ask(fabric, tmp_path, tiny, roots):
    annotator = f"store:{tmp_path / 'store.sqlite'}"
    experiment = phases(tiny, fabric, roots, tmp_path / "run", annotator=annotator)
    with pytest.raises(InputError, match="method 'wda_tags': asks for more than pixels"):
        experiment.run(resolve(["ppl", "wda_tags"]), [0])
    assert not (tmp_path / "run").exists()
