"""What a job asks for, compared with what a cluster has."""

import pytest

from paddlevideo.scale.resources import Node, cluster_text, fit, plan_text
from paddlevideo.scale.stages import EachItem, Stage, crash


def stage(name="work", cpus=1.0, gpus=0.0, least=1, most=None) -> Stage:
    return Stage(name, EachItem(abs), crash, cpus, gpus, least, most)


def most(stages: list[Stage]) -> list[int | None]:
    return [one.most for one in stages]


def test_one_stage_fills_the_cluster():
    assert most(fit([stage()], [Node(2), Node(3)])) == [5]
    assert most(fit([stage(cpus=0.5)], [Node(2)])) == [4]
    assert most(fit([stage(cpus=2)], [Node(3), Node(3)])) == [2]
    assert most(fit([stage(most=3)], [Node(8)])) == [3]


def test_all_stages_have_room_for_their_least_workers():
    decode, network = fit([stage("decoding"), stage("network", 2, least=2)], [Node(4), Node(2)])
    # 1 + 2 * 2 CPUs are taken, and 1 is left.
    assert (decode.most, network.most) == (2, 2)


def test_gpus_limit_the_workers_that_need_them():
    nodes = [Node(8, 1), Node(8)]
    decode, network = fit([stage("decoding"), stage("network", 1, 0.25)], nodes)
    assert network.most == 4 and decode.most == 15


def test_a_worker_that_no_node_holds_is_an_error():
    with pytest.raises(ValueError, match="asks for 4 CPUs, and no node has that.* 2 nodes with 2"):
        fit([stage("the network", 4)], [Node(2), Node(2)])
    with pytest.raises(ValueError, match="asks for 1 CPU and 1 GPU, and no node has that"):
        fit([stage("the network", 1, 1)], [Node(64)])
    with pytest.raises(ValueError, match="the cluster has no node"):
        fit([stage()], [])


def test_stages_that_wait_for_each_other_are_an_error():
    """Nodes of 1 CPU whose only place goes to the network: decoding would wait for ever."""
    with pytest.raises(ValueError, match="at least these workers at once: 1 for decoding") as error:
        fit([stage("decoding"), stage("the network")], [Node(1)])
    assert "lower --num_cpus" in str(error.value) and "1 node with 1 CPU" in str(error.value)
    assert most(fit([stage("decoding"), stage("the network")], [Node(1), Node(1)])) == [1, 1]


def test_least_workers_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="3 for the network with 2 CPUs each"):
        fit([stage("the network", 2, least=3)], [Node(3), Node(3)])


def test_parts_of_a_cpu_add_up():
    assert most(fit([stage(cpus=0.1, least=10)], [Node(1)])) == [10]


def test_the_line_about_a_job():
    nodes = [Node(2), Node(2), Node(8, 1)]
    stages = fit([stage("decoding", 0.5, most=4), stage("the network", 1, 1)], nodes)
    text = plan_text(stages, nodes, free_cpus=12)
    assert text == (
        "decoding: 1 to 4 workers of 0.5 CPUs; the network: 1 to 1 workers of 1 CPU and 1 GPU; "
        "the cluster has 2 nodes with 2 CPUs, 1 node with 8 CPUs and 1 GPU"
    )
    assert plan_text(stages, nodes, free_cpus=9).endswith(", of which 3 CPUs are in use")
    assert Node.of({"CPU": 4.0, "memory": 1e9, "GPU": 2.0}) == Node(4, 2)
    assert cluster_text([]) == "no node"
