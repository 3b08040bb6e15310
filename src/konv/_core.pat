# What nanobind's stub generator cannot see; `make stub` writes src/konv/_core.pyi.

konv._core.Memory.__suffix__:
    def __buffer__(self, flags: int, /) -> memoryview: ...

konv._core.(channel_[a-z]*|relu[a-z_]*):
    def \1(*arrays: object) -> Memory | None: ...
