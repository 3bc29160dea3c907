import torch
from torch import nn

from imasks.labelling.judge import Judge
from imasks.tasks import Binary, Multiclass


class Echo(nn.Module):
    """Answers with the mean of the last plane of the mask, and with that of the image."""

    def __init__(self, outputs, *, image=False):
        super().__init__()
        self.outputs, self.image = outputs, image

    def forward(self, images, masks):
        seen = images[:, 0] / 255 if self.image else masks[:, -1]
        mean = seen.mean((1, 2)).clamp(1e-6, 1 - 1e-6).logit()
        heads = 1 if self.outputs == 1 else 2
        return mean[:, None, None].expand(-1, heads, self.outputs)


def halves(*values):
    """Two networks' probabilities [2, 1, 1, 2, 2] of the left and right column."""
    return torch.tensor(values)[:, None, None, None, :].expand(-1, 1, 1, 2, 2)


WHITE = torch.full((1, 3, 2, 2), 255.0)


def test_the_inconsistency_mask_is_cut_out_of_mask_and_image():
    found = halves((0.9, 0.9), (0.9, 0.2))  # they agree on the left only; the mean is above 0.5
    for image in (False, True):
        judge = Judge(evalnets=[Echo(1, image=image)], task=Binary(["x"]), plain=False)
        torch.testing.assert_close(judge(WHITE, found), torch.tensor([[[0.5]]]))


def test_plain_judges_see_the_mask_that_is_predicted():
    found = halves((0.9, 0.9), (0.9, 0.2))
    for image in (False, True):
        judge = Judge(evalnets=[Echo(1, image=image)], task=Binary(["x"]), plain=True)
        torch.testing.assert_close(judge(WHITE, found), torch.tensor([[[1.0]]]))


def test_judges_are_averaged():
    found = halves((0.9, 0.9), (0.9, 0.2))
    judge = Judge(evalnets=[Echo(1), Echo(1), Echo(1, image=True)], task=Binary(["x"]), plain=False)
    image = torch.where(torch.tensor([True, False]), WHITE, 0) * 0.5
    expected = torch.tensor([[[(0.5 + 0.5 + 0.25) / 3]]])
    torch.testing.assert_close(judge(image, found), expected)


def test_classes_are_seen_one_by_one():
    task = Multiclass(["a", "b"])
    one = torch.tensor([0.0, 0.1, 0.9])[:, None, None].expand(3, 2, 2)
    answers = Judge(evalnets=[Echo(3)], task=task, plain=False)(WHITE, one[None, None])
    assert answers.shape == (1, 2, 3)
    torch.testing.assert_close(task.pair_score(answers), torch.tensor([1.0]))
