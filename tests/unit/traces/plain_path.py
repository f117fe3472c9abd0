"""The longest path in the plainest way: each edge by itself, relaxed until nothing moves."""


def edges_of(graph):
    """(from, to, length) of every edge, and what each node adds itself."""
    own = (graph.wait_ns + graph.work_ns).tolist()
    edges = [(0, node, 0) for node in range(1, len(graph))]
    for node in range(1, len(graph)):
        edges.append((int(graph.before[node]), node, int(graph.between_ns[node])))
        edges.append((int(graph.other[node]), node, int(graph.lag_ns[node])))
    return edges[len(graph) - 1 :], own


def plain_lengths(graph):
    """When each node is reached, by relaxing all edges until none moves any."""
    edges, own = edges_of(graph)
    reached = [0] + [None] * (len(graph) - 1)
    moved = True
    while moved:
        moved = False
        for start, end, length in edges:
            if reached[start] is None:
                continue
            time = reached[start] + length + own[end]
            if reached[end] is None or time > reached[end]:
                reached[end], moved = time, True
    return reached


def plain_path(graph):
    """Nodes of a longest path to the node that is reached last, backwards."""
    edges, own = edges_of(graph)
    reached = plain_lengths(graph)
    node = reached.index(max(reached))
    path = []
    while node:
        path.append(node)
        node = next(a for a, b, c in edges if b == node and reached[a] + c + own[b] == reached[b])
    return path
