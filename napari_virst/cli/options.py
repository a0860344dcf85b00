"""Arguments and options of the command line that several commands share, and those of ``segment``; worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option("--model", help='"compact" (bundled) or a model folder.')]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", help='"default", or "reference" to run as the published code does; else as the model says.'
    ),
]
DtypeOption = Annotated[str, typer.Option("--dtype", help="bf16, fp16 or fp32; auto: as stored on a GPU, else fp32.")]
QuantizeOption = Annotated[
    str | None, typer.Option("--quantize", help="8bit or 4bit language model, where the whole does not fit on the GPU.")
]
OffloadOption = Annotated[
    bool, typer.Option("--offload", help="Keep in main memory what does not fit on the GPU; slower.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]

VideoArgument = Annotated[str, typer.Argument(help="Movie, TIFF, OME-Zarr, image, or folder of images.")]
QueryArgument = Annotated[str | None, typer.Argument(help='What to follow, e.g. "the red circle".')]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="Folder for label stacks and the summary.")]
QueryOption = Annotated[list[str] | None, typer.Option("-q", "--query", help="One more query; all run as one batch.")]
CorrectOption = Annotated[
    list[str] | None, typer.Option("--correct", help="FRAME=MASK: a mask you vouch for, or FRAME=absent.")
]
LabelOption = Annotated[int | None, typer.Option(help="Which value of the mask files is the object.")]
RegionOption = Annotated[str | None, typer.Option(help="y0,x0,y1,x1: look only here.")]
AxesOption = Annotated[str | None, typer.Option(help="Axes of the file, e.g. TCYX, where they cannot be told.")]
ChannelOption = Annotated[int | None, typer.Option(help="Channel to look at.")]
ZOption = Annotated[str | None, typer.Option(help="Z plane number, max or mean.")]
FramesSampledOption = Annotated[
    str | None,
    typer.Option(
        "--frames-sampled",
        help="The very frames to ask about, e.g. 0,4,8,12, or all/of them for ST-Fusion, or a JSON file of both.",
    ),
]
InitialFusionOption = Annotated[
    bool | None, typer.Option("--initial-fusion/--no-initial-fusion", help="The first fusion; else as preset.")
]
ExcludeAnchorOption = Annotated[
    list[int] | None, typer.Option("--exclude-anchor", help="Frame whose mask by language is not to be trusted.")
]
SourcesArgument = Annotated[
    list[Path], typer.Argument(help="Project folders, result folders of segment, or label TIFFs: one per video.")
]
FormatOption = Annotated[str, typer.Option("-f", "--format", help="coco, davis, youtube-vos, mevis, yolo or ctc.")]
OnlyOption = Annotated[
    str | None, typer.Option("--only", help='"reviewed": only frames that a person corrected or accepted.')
]
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", help="Only this query, by its name; may be given several times.")
]
FramesOption = Annotated[bool, typer.Option("--frames", help="Write the frames of the video too.")]
LabelledVideoOption = Annotated[
    list[str] | None, typer.Option("--video", help="Where the video is, one per source; implies --frames.")
]
SplitOption = Annotated[str, typer.Option("--split", help="train, val, valid or test.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the export that is in the folder.")]

LearnOption = Annotated[
    bool, typer.Option("--learn", help="Learn from two or more corrections first; dropped if it does not help.")
]

VideosArgument = Annotated[
    list[str], typer.Argument(help='Videos, folders of movies, or patterns like "videos/*.mp4".')
]
BatchQueryOption = Annotated[
    list[str], typer.Option("-q", "--query", help="What to follow; may be given several times.")
]
BatchOutOption = Annotated[Path, typer.Option("-o", "--out", help="Folder for a folder of results per video.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Do videos again whose results are there.")]
