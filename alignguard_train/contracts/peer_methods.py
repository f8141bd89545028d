"""Other published methods: their names in a profile and their titles in tables."""

PEERS: dict[str, str] = {
    "negative_prompt": "alignguard_train.peers.negative_prompt:NegativePrompt",
    "sld": "alignguard_train.peers.sld:SLD",
    "casg": "alignguard_train.peers.casg:CASG",
    "safree": "alignguard_train.peers.safree:SAFREE",
    "uce": "alignguard_train.peers.uce:UCE",
    "esd": "alignguard_train.peers.esd:ESD",
    "adv_unlearn": "alignguard_train.peers.adv_unlearn:AdvUnlearn",
}
"""Method name to its class."""
IN_WEIGHTS = ("uce", "esd")
"""Methods that change the UNet's weights; the others correct images while they are denoised, but
for those of :data:`IN_TEXT_ENCODER`."""
IN_TEXT_ENCODER = ("adv_unlearn",)
"""Methods that change the text encoder's weights: an attack on it must read the changed one."""


TITLES: dict[str, str] = {
    "negative_prompt": "Negative prompt",
    "sld": "SLD",
    "casg": "CASG on SLD",
    "safree": "SAFREE (text space)",
    "uce": "UCE",
    "esd": "ESD-u",
    "adv_unlearn": "AdvUnlearn (text encoder)",
}
