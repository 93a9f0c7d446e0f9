import numpy as np
import pytest
from written_study import npy, npz

from rfray.analysis.artifacts import (
    ArtifactError,
    read_alignment,
    read_density,
    read_pattern,
    read_spectrum,
)

LAYERS = ["conv1", "conv2"]


def put(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_density_is_read_in_ascending_order(tmp_path):
    path = put(tmp_path, "density.csv", "eigenvalue,density\n2.0,0.5\n-1.0,1e-3\n")

    density = read_density(path)

    assert density.eigenvalues.tolist() == [-1.0, 2.0]
    assert density.density.tolist() == [1e-3, 0.5]


def test_spectrum_tells_what_converged(tmp_path):
    text = "rank,eigenvalue,residual,converged\n0,9.5,1e-6,True\n1,3.0,0.2,False\n"

    spectrum = read_spectrum(put(tmp_path, "spectrum.csv", text))

    assert spectrum.ranks.tolist() == [0, 1]
    assert spectrum.converged.tolist() == [True, False]


def test_alignment_keeps_what_is_undefined(tmp_path):
    matrices = np.array([[[1.0, 0.2], [0.3, np.nan]]])

    alignment = read_alignment(put(tmp_path, "cka.npz", npz(LAYERS, [(0, 1)], matrices)))

    assert alignment.layers == ("conv1", "conv2")
    np.testing.assert_array_equal(alignment.matrices, matrices)


@pytest.mark.parametrize(
    ("name", "read", "content", "message"),
    [
        ("density.csv", read_density, "", "density.csv holds no values"),
        ("density.csv", read_density, "eigenvalue\n1\n", "lacks values in the column density"),
        (
            "density.csv",
            read_density,
            "eigenvalue,density\n1,x\n",
            "density.csv cannot be read: could not convert",
        ),
        ("density.csv", read_density, "eigenvalue,density\n1,nan\n", "values that are not finite"),
        (
            "spectrum.csv",
            read_spectrum,
            "rank,eigenvalue,residual,converged\n0,1,1,maybe\n",
            "converged is 'maybe'",
        ),
        ("cka.npz", read_alignment, b"PK\x03\x04cut", "cka.npz cannot be read"),
        ("cka.npz", read_alignment, npz(LAYERS, [], np.zeros((0, 2, 2))), "no pair of networks"),
        (
            "cka.npz",
            read_alignment,
            npz(LAYERS, [(0, 1)], np.zeros((1, 3, 3))),
            r"matrices \(1, 3, 3\), not 1 pairs of 2 layers",
        ),
        ("pattern.npy", read_pattern, b"", "pattern.npy cannot be read"),
        ("pattern.npy", read_pattern, npy(np.zeros(4)), r"has the shape \(4,\), not H × W"),
        ("pattern.npy", read_pattern, npy(-np.ones((2, 2))), "cannot be a mean of"),
    ],
)
def test_file_that_is_not_what_it_should_be_is_named(tmp_path, name, read, content, message):
    with pytest.raises(ArtifactError, match=message):
        read(put(tmp_path, name, content))
