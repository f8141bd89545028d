"""Other published methods: their names in a profile and their titles in tables."""

PEERS: dict[str, str] = {
    "negative_prompt": "alignguard_train.peers.negative_prompt:NegativePrompt",
    "sld": "alignguard_train.peers.sld:SLD",
    "casg": "alignguard_train.peers.casg:CASG",
    "safree": "alignguard_train.peers.safree:SAFREE",
    "uce": "alignguard_train.peers.uce:UCE",
    "esd": "alignguard_train.peers.esd:ESD",
}
"""Method name to its class."""
IN_WEIGHTS = ("uce", "esd")
"""Methods that change the UNet's weights; the others correct images while they are denoised."""


TITLES: dict[str, str] = {
    "negative_prompt": "Negative prompt",
    "sld": "SLD",
    "casg": "CASG on SLD",
    "safree": "SAFREE (text space)",
    "uce": "UCE",
    "esd": "ESD-u",
}
