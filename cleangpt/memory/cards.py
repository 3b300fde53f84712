"""The memory of cards that one can rent, in bytes, after NVIDIA's data sheets."""

GB = 10**9
CARDS: dict[str, int] = {
    "T4": 16 * GB,
    "L4, A10, RTX 4090": 24 * GB,
    "RTX 5090": 32 * GB,
    "A100 40 GB": 40 * GB,
    "L40S": 48 * GB,
    "A100, H100 80 GB": 80 * GB,
    "H200": 141 * GB,
    "B200": 180 * GB,
}
