"""One file a peer, set up as its users would at their best.

Each defines versions() -> {name: version}, and what it can of

    train(name, batch, optimizer, option) -> step    one optimiser step of a network on a batch in memory
    infer(name, batch, option) -> step               one prediction
    fit(name, x, y, batch, option) -> epoch          one epoch of fitting, with shuffling, validation and progress

where `option` tells variants of a peer apart; what is returned is called without arguments and waits for its result.
"""
