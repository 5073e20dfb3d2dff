"""The one list of codes: what each means and what a person should do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means and what a person should do about it."""

    meaning: str
    remedy: str


_EXPORT_AGAIN = (
    "Export the file again from the acquisition software, or copy it again from the cytometer, and check its size."
)

_MATRIX = (
    "Export the tube with its spillover from the cytometer; or name a matrix CSV in the manifest column compensation, "
    'where the template allows it (compensation.source or alternatives has "manifest").'
)

CODES: dict[str, Code] = {
    # --- FCS files -------------------------------------------------------------------------------------------------
    "FCS_OPEN": Code("the file cannot be opened or read", "Check the path and that you may read the file."),
    "FCS_NOT_FCS": Code(
        "the file does not begin with an FCS HEADER", "Check that this is an FCS file and was copied completely."
    ),
    "FCS_VERSION": Code("the FCS version is not 2.0, 3.0, 3.1 or 3.2", "Export the file as FCS 3.0 or 3.1."),
    "FCS_HEADER": Code("an offset in HEADER is not a whole number", _EXPORT_AGAIN),
    "FCS_TEXT_MISSING": Code("HEADER does not say where TEXT lies, or it lies outside the file", _EXPORT_AGAIN),
    "FCS_TEXT_DELIMITER": Code("TEXT does not begin with a delimiter, so its offset is wrong", _EXPORT_AGAIN),
    "FCS_TEXT_PAIRS": Code("keywords and values of TEXT do not alternate", _EXPORT_AGAIN),
    "FCS_KEYWORD_MISSING": Code("a keyword without which the events cannot be read is missing", _EXPORT_AGAIN),
    "FCS_KEYWORD_VALUE": Code("a keyword on which the events depend has an impossible value", _EXPORT_AGAIN),
    "FCS_KEYWORD_CONFLICT": Code(
        "a keyword on which the events depend is written twice with different values", _EXPORT_AGAIN
    ),
    "FCS_MODE": Code("the file holds histograms, not a list of events", "Export the events in list mode."),
    "FCS_DATATYPE": Code("$DATATYPE or $PnDATATYPE is not one of the standard's", _EXPORT_AGAIN),
    "FCS_BYTEORD": Code("$BYTEORD is no byte order, or does not fit the widths", _EXPORT_AGAIN),
    "FCS_WIDTH": Code("$PnB is no width the data type can have", _EXPORT_AGAIN),
    "FCS_RANGE": Code("$PnR of an integer parameter is missing, so the bits that count are unknown", _EXPORT_AGAIN),
    "FCS_DATASET": Code(
        "the file has fewer data sets than the number asked for",
        "Ask for one that is there: the command line counts them from 1, `dataset=` in Python from 0.",
    ),
    "FCS_DATA_MISSING": Code("neither HEADER nor TEXT says where DATA lies", _EXPORT_AGAIN),
    "FCS_DATA_LENGTH": Code("no stated place of DATA has the length that $TOT and the widths ask for", _EXPORT_AGAIN),
    "FCS_DATA_OVERLAPS": Code("the stated place of DATA overlaps HEADER or TEXT", _EXPORT_AGAIN),
    "FCS_OFFSETS_CONFLICT": Code("HEADER and TEXT give different places of DATA and both would fit", _EXPORT_AGAIN),
    "FCS_TRUNCATED": Code("the file ends before the segments it promises: it was cut", _EXPORT_AGAIN),
    "FCS_REENCODED": Code("DATA went through a text editor and its values are lost", _EXPORT_AGAIN),
    "FCS_ASCII": Code("DATA in ASCII holds something else than the whole numbers it should", _EXPORT_AGAIN),
    "FCS_LOG_ON_FLOAT": Code(
        "a floating-point parameter has a logarithmic $PnE, which the standard forbids",
        "Use another channel, or export the file again: it cannot be told whether its values are linear.",
    ),
    "FCS_LOG_APPLIED": Code(
        "$PnE is logarithmic, but flowCore notes that it already made the values linear; they were read as linear",
        "None is needed.",
    ),
    "FCS_MODE_MISSING": Code(
        "$MODE is missing; DATA has the length of a list of events and was read as one", "None is needed."
    ),
    "FCS_PNE_MISSING": Code(
        "$PnE of an integer parameter is missing, which FCS 3.0 and later require; it was read as linear",
        "Check at the cytometer whether the channel was amplified logarithmically.",
    ),
    "FCS_WRITE": Code("the events or keywords cannot be written as FCS", "Correct the input named in the message."),
    "FCS_TEXT_LATIN1": Code(
        "TEXT is not UTF-8 and was read as latin-1", "None is needed, unless names with accents look wrong."
    ),
    "FCS_TEXT_EMPTY_VALUE": Code("keywords have an empty value, which the standard forbids", "None is needed."),
    "FCS_TEXT_END": Code(
        "TEXT ends one byte beside its stated end", "None is needed: its last delimiter shows where it ends."
    ),
    "FCS_TEXT_UNTERMINATED": Code(
        "TEXT has no final delimiter, so its last value may be cut", "Look at the last keyword."
    ),
    "FCS_TEXT_OFFSETS_UNREADABLE": Code("offsets in TEXT are not whole numbers; HEADER's were used", "None is needed."),
    "FCS_TEXT_OFFSETS_MISSING": Code("TEXT does not give the offsets of DATA; HEADER's were used", "None is needed."),
    "FCS_STEXT_IGNORED": Code(
        "supplemental TEXT repeats TEXT or cannot be read", "Compare the keywords with the cytometer if one is missing."
    ),
    "FCS_ANALYSIS_IGNORED": Code("ANALYSIS cannot be read; nothing of it is used", "None is needed."),
    "FCS_KEYWORD_REPEATED": Code(
        "a keyword is written twice with different values; the first counts", "Check the keyword at the cytometer."
    ),
    "FCS_NEXTDATA": Code(
        "$NEXTDATA leads nowhere; the data set was read as the last", "Check that the file was copied completely."
    ),
    "FCS_CRC_CUT": Code(
        "the file ends inside the 8 bytes of its checksum, behind the events, which are all there",
        "None is needed for counts; copy the file again from the cytometer if it must be the whole one.",
    ),
    "FCS_EXTRA_BYTES": Code(
        "bytes that belong to no segment follow the last one; they are not read", "None is needed."
    ),
    "FCS_DATA_OFF_BY_ONE": Code(
        "the stated end of DATA is one byte off; $TOT and the widths leave one place", "None is needed."
    ),
    "FCS_HEADER_TEXT_DIFFER": Code(
        "HEADER and TEXT give different places of DATA and only one fits", "Tell the maker of the writing software."
    ),
    "FCS_HEADER_BLANK": Code("HEADER leaves DATA blank where it need not; TEXT's offsets were used", "None is needed."),
    "FCS_TOT_DERIVED": Code(
        "$TOT is missing; the number of events follows from the length of DATA",
        "Check the number of events with the cytometer's.",
    ),
    "FCS_WIDTH_FLOAT": Code(
        "$PnB is not the width of the floating-point type; the type's width fits DATA", "None is needed."
    ),
    "FCS_WIDTH_WORDS": Code(
        "$PnB is not a whole number of bytes; only words of whole bytes fit DATA",
        "Tell the maker of the writing software.",
    ),
    "FCS_RANGE_UNKNOWN": Code(
        "$PnR of a floating-point parameter is missing; axes cannot use it", "None is needed for counts."
    ),
    "FCS_DUPLICATE_PNN": Code(
        "two channels have one name", "Correct $PnN at the cytometer; a template cannot tell these channels apart."
    ),
    "FCS_PNN_MISSING": Code("a channel has no name", "Correct $PnN at the cytometer if the channel is needed."),
    "FCS_LOG_OFFSET_ZERO": Code(
        "$PnE has decades and an offset of 0, read as 1 as the standard says", "None is needed."
    ),
    "FCS_GAIN_INVALID": Code("$PnG is not above 0; no gain was applied", "Check the amplifier gain at the cytometer."),
    "FCS_GAIN_IGNORED": Code(
        "$PnG on Time or a logarithmic parameter has no meaning and was not applied", "None is needed."
    ),
    "FCS_TIME_NOT_LINEAR": Code("$PnE of Time is logarithmic; Time was read as linear", "Check Time at the cytometer."),
    "FCS_TIMESTEP": Code(
        "there is a Time channel but no usable $TIMESTEP; Time stays in ticks",
        "Check $TIMESTEP at the cytometer if times in seconds are needed.",
    ),
    # --- panel, compensation, transforms, gates --------------------------------------------------------------------
    "COMPENSATION_NOT_ALLOWED": Code(
        "a matrix is there that the template does not ask for",
        "Empty the manifest column compensation, or use a template that allows it (compensation.source or alternatives "
        'has "manifest"); for a matrix in the file, a template with compensation.source "file".',
    ),
    "COMPENSATION_ALTERNATIVE": Code(
        "the compensation came from an alternative of the template",
        "Check that the matrix is the right one for this tube.",
    ),
    "PANEL_MARKER_MISSING": Code(
        "a marker of the template has no channel in the tube",
        "Correct $PnS at the cytometer, or name the channel in the manifest column channel_<MARKER>.",
    ),
    "PANEL_MARKER_AMBIGUOUS": Code(
        "a marker of the template matches several channels of the tube",
        "Correct $PnS at the cytometer, or name the channel in the manifest column channel_<MARKER>.",
    ),
    "PANEL_CHANNEL_SHARED": Code(
        "two markers of the template come to the same channel",
        "Correct $PnS at the cytometer, or name the channels in the manifest columns channel_<MARKER>.",
    ),
    "COMPENSATION_AMBIGUOUS": Code(
        "the file carries two spillover matrices that differ",
        f"Find out which of them is right. {_MATRIX}",
    ),
    "COMPENSATION_CHANNELS": Code(
        "a channel of the spillover matrix is not exactly one channel of the tube",
        f"Correct the names where the matrix was made: they must be the tube's $PnN. {_MATRIX}",
    ),
    "COMPENSATION_DIAGONAL": Code(
        "a spillover matrix that is not 1 on its diagonal: compensation changes the unit of that channel",
        "Check that the coefficients are fractions of the source's own detector, not percentages.",
    ),
    "COMPENSATION_DONE_BEFORE": Code(
        "the tube was exported with compensated values; its identity matrix leaves them as they are",
        "Nothing, if the template means compensated values; else export the tube uncompensated.",
    ),
    "COMPENSATION_ELECTRONIC": Code(
        "the instrument has subtracted a compensation before it wrote the values",
        "Use a template with compensation source 'unmixed', or record uncompensated values.",
    ),
    "COMPENSATION_IDENTITY": Code(
        "the spillover matrix is the identity: nobody computed one, or the tube is unmixed",
        f"If the tube is unmixed, use a template that says so. Else: {_MATRIX[0].lower()}{_MATRIX[1:]}",
    ),
    "COMPENSATION_MALFORMED": Code(
        "a spillover matrix cannot be read",
        f"Export the matrix again. {_MATRIX}",
    ),
    "COMPENSATION_MISSING": Code(
        "the template needs a spillover matrix and there is none; nothing is gated uncompensated instead",
        f"{_MATRIX} If the tube is unmixed, use a template that says so.",
    ),
    "COMPENSATION_NAMES": Code(
        "the spillover matrix names its channels in another spelling or by number; one reading fits",
        "Nothing; the channels used are listed.",
    ),
    "COMPENSATION_NOT_FINITE": Code(
        "a spillover coefficient is not a finite number",
        f"Compute the matrix again. {_MATRIX}",
    ),
    "COMPENSATION_PARTIAL": Code(
        "the spillover matrix does not cover every channel that the gates use",
        f"Compute a matrix with all of them. {_MATRIX}",
    ),
    "COMPENSATION_SINGULAR": Code(
        "the spillover matrix cannot be inverted: two sources look alike, or a channel is empty",
        "Compute the matrix again from single stains of every fluorochrome.",
    ),
    "COMPENSATION_TWICE": Code(
        "a compensation would be applied to values that are compensated already", "Export the tube uncompensated."
    ),
    "GATE_EXPORT": Code(
        "a tree of gates cannot be written as Gating-ML",
        "Correct the gate in a new version of the template; if the template is valid, report it.",
    ),
    "GATE_GEOMETRY": Code(
        "a gate that cannot exist: too few vertices, an empty range, a covariance that is not positive definite, ...",
        "Correct the gate in a new version of the template.",
    ),
    "GATE_POINTS": Code(
        "a gate was given another number of arrays than it has dimensions or operands",
        "Pass one array per dimension of the gate, in its order.",
    ),
    "TRANSFORM_PARAMETER": Code(
        "a transform's parameters are outside what Gating-ML 2.0 allows",
        "Correct the transform in a new version of the template.",
    ),
    # --- template --------------------------------------------------------------------------------------------------
    "TEMPLATE_SYNTAX": Code("a template file is not valid TOML", "Correct the line named, then run the command again."),
    "TEMPLATE_SCHEMA_NEWER": Code(
        "a template was written for a newer tregflow", "Update tregflow, or use a template of an older schema."
    ),
    "TEMPLATE_INVALID": Code("a template breaks its own rules", "Correct every line listed, then validate it again."),
    "TEMPLATE_UNREADABLE": Code("a template file cannot be read", "Check the path and the permissions."),
    "TEMPLATE_UNKNOWN": Code(
        "no template of that name and version",
        "Name one of those listed as ID@VERSION, or give a path ending in .toml.",
    ),
    "TEMPLATE_CHANGED": Code(
        "a released template's content is not what was released",
        "Restore the released file; a change needs a new version.",
    ),
    "TEMPLATE_TWICE": Code(
        "a version is shipped and in the laboratory's own folder, with different content",
        "Give the laboratory's template an id or a version of its own.",
    ),
    "TEMPLATE_READ_ONLY": Code(
        "templates would be written into the folder that is shipped with tregflow",
        "Work in another folder, or name one with --templates.",
    ),
    "TEMPLATE_CANNOT_WRITE": Code(
        "the laboratory's own templates cannot be written", "Check permissions and free space, then run again."
    ),
    "TEMPLATE_EXISTS": Code(
        "there is a file where a template would be written", "Move it away, or choose another version."
    ),
    "TEMPLATE_STATUS": Code(
        "a step of a template's life that its status does not allow",
        "See `tregflow template list`; a change of a release needs a new version (`tregflow template new --from`).",
    ),
    "TEMPLATE_NO_CHANGELOG": Code(
        "a template would be released without saying whether a count can move",
        "Fill `numbers` of its entry under [[changelog]]: which count can move, why and by how much.",
    ),
    "TEMPLATE_VERSION": Code(
        "a version is too low for what changed, or is none that can be released",
        "Release it under the version that the change demands (`--version`), or take the change back.",
    ),
    "TEMPLATE_LEDGER": Code(
        "the registry of templates is not what its ledger says: it was edited by hand, or a step was cut off",
        "Restore registry.toml, or run the step again that was cut off.",
    ),
    "TEMPLATE_FOLDER_MISSING": Code("the shipped templates are not found", "Install tregflow again."),
    "TEMPLATE_REGISTRY_INVALID": Code("the registry of released templates cannot be read", "Restore registry.toml."),
    # --- placement and gating --------------------------------------------------------------------------------------
    "PLACEMENT_TOO_FEW_EVENTS": Code(
        "a rule's reference population has too few events to place a gate",
        "Acquire more events, or see in the report where they were lost.",
    ),
    "PLACEMENT_OUTSIDE_BOUNDS": Code(
        "a rule placed a gate outside the bounds of the template",
        "Look at the reference population in the report: staining, compensation, or a swapped channel.",
    ),
    "PLACEMENT_NO_VALLEY": Code(
        "no density minimum deep enough between two modes",
        "Look at the density in the report: the positive or the negative population may be missing.",
    ),
    "PLACEMENT_NO_MODE": Code(
        "a density lacks the one mode that a rule rests on",
        "Look in the report whether the population is there, and alone.",
    ),
    "PLACEMENT_FALLBACK": Code(
        "a rule could not place its gate; the template's value or the subject's baseline cut was used",
        "Look at the gate in the report before using the number.",
    ),
    "PLACEMENT_NO_CONTROL": Code(
        "a rule stands on a control tube that the batch does not have, or that cannot be gated",
        "Add the FMO tube to the batch, or see its own finding.",
    ),
    "PLACEMENT_NO_ANCHOR": Code(
        "a subject's cut is placed on its baseline tube, and there is none yet",
        "Gate the batch with the subject's baseline tube first; its cut is then kept for all later visits.",
    ),
    "PLACEMENT_ANCHOR_OTHER": Code(
        "the subject's cut was frozen on another file than the baseline tube of this batch",
        "Find out which file is the baseline tube; what was frozen first stays.",
    ),
    "STUDY_NO_BASELINE": Code(
        "the template needs a baseline visit and the study names none",
        "Give the baseline visit under [[visits]] in study.toml, with baseline = true.",
    ),
    "PLACEMENT_NO_SHARED": Code(
        "no tube of the batch could place a gate that the batch shares",
        "See in the report why the reference population could not be used in any tube of the batch.",
    ),
    "PLACEMENT_NOT_OWN": Code(
        "this tube could not place a gate that its batch shares; the cut of the batch's other tubes was used",
        "Look at the reference population in the report before using the number.",
    ),
    "PLACEMENT_CONTROL_BORROWED": Code(
        "a cut stands on an FMO tube of another batch, within the template's window",
        "Stain an FMO tube with every batch; until then look at this cut beside the batch's own tubes.",
    ),
    "PLACEMENT_SENSITIVE": Code(
        "the deciding cuts lie in a slope: a little lower, and the numerator grows by more than the template's limit",
        "Look at both cuts in the report: positives and negatives overlap here, and the interval says by how much.",
    ),
    "PLACEMENT_REFERENCE_POSITIVE": Code(
        "many cells of the population that the cuts stand on are positive themselves",
        "Look at the reference population in the report: it may be activated, or a channel may be swapped.",
    ),
    "PLACEMENT_DEGENERATE": Code(
        "a rule's reference population has no spread, so nothing can be placed on it",
        "Look at the channel in the report: it may be saturated, constant or clipped at zero.",
    ),
    "EVENTS_NON_FINITE": Code(
        "events with a value that is not a finite number; they are in no gate",
        "Export the tube from the cytometer again.",
    ),
    # --- study, manifest -------------------------------------------------------------------------------------------
    "MANIFEST_AMBIGUOUS": Code("a batch folder has two manifests", "Keep one of them."),
    "MANIFEST_UNREADABLE": Code(
        "a manifest is not a table that can be read: not UTF-8, two delimiters, broken quotes, not a workbook, ...",
        "Save it again as 'CSV UTF-8' or as a workbook (.xlsx) with one sheet.",
    ),
    "MANIFEST_INVALID": Code(
        "a manifest has the problems that are listed", "Correct the cells listed; the run does not start before that."
    ),
    "MANIFEST_COLUMN": Code(
        "a column of the manifest is unknown, missing or there twice",
        "Rename or remove it; markers are named in columns channel_<MARKER>.",
    ),
    "MANIFEST_EMPTY": Code("a manifest lists no tubes", "Add one row per tube."),
    "MANIFEST_VALUE_MISSING": Code("a value that a tube of this role needs is empty", "Fill it in."),
    "MANIFEST_ROLE": Code("a role is none of those that tregflow knows", "Correct the role."),
    "MANIFEST_VALUE": Code("a value cannot be what its column says", "Correct the value, or leave the cell empty."),
    "MANIFEST_SPREADSHEET": Code(
        "a spreadsheet program turned a text into a date, a number, a formula or an error",
        "Format the column as Text, then type the value again.",
    ),
    "MANIFEST_PATH": Code(
        "a path of the manifest leads out of the batch folder",
        "Put the file into the batch folder and give its path from there.",
    ),
    "MANIFEST_VISITS": Code(
        "visits of a manifest differ only by case or separators, and would be different visits",
        "Write each visit in one way: in the manifest, or in the names of the files.",
    ),
    "TUBES_FOLDER": Code("the batch folder is not there", "Check the path of the batch."),
    "TUBES_RULES": Code(
        "the rules that recognise tubes cannot be used", "Correct [tubes] in study.toml or in the template."
    ),
    "TUBES_NOT_INFERRED": Code(
        "tubes cannot be identified from their names and keywords",
        "Rename the files, correct [tubes] in study.toml, or write a manifest.csv.",
    ),
    "TUBES_PATTERN": Code("a file's name does not fit the pattern", "Rename the file, or correct tubes.pattern."),
    "TUBES_KEYWORDS": Code(
        "a tube's keywords are needed to identify it and cannot be read", "List the tube in a manifest.csv."
    ),
    "STUDY_FILE_UNREADABLE": Code("a study file is not readable TOML", "Correct the line named."),
    "STUDY_FILE_INVALID": Code("a study file breaks its own rules", "Correct every place listed."),
    "TABLE_INVALID": Code(
        "a table of results would break its own rules, and was not written",
        "Delete the tube's record in samples/ and run again; if it stays, report it.",
    ),
    # --- quality ---------------------------------------------------------------------------------------------------
    "DENOMINATOR_TOO_FEW": Code(
        "too few events in the denominator for a percentage",
        "Acquire more of the tube if there is any; see in the report where the events were lost.",
    ),
    "DENOMINATOR_LOW": Code(
        "fewer events in the denominator than wanted", "Acquire more events next time; the interval shows the cost."
    ),
    "NUMERATOR_BELOW_LLOD": Code(
        "fewer numerator events than the limit of detection; the value stays", "Report the value with this flag."
    ),
    "NUMERATOR_BELOW_LLOQ": Code(
        "fewer numerator events than the limit of quantification; the value stays", "Report the value with this flag."
    ),
    "NUMERATOR_LOW": Code(
        "few numerator events; the value stays",
        "Nothing, or acquire more events next time; the interval shows the cost.",
    ),
    "POPULATION_UNEXPECTED": Code(
        "an upstream population is outside the template's expectation",
        "Look at its gate in the report: scale, compensation, a swapped channel, or the specimen itself.",
    ),
    "POPULATION_IMPLAUSIBLE": Code(
        "an upstream population is so far from the template's expectation that the number means nothing",
        "Look at its gate in the report: scale, compensation, a swapped channel, or the specimen itself.",
    ),
    # --- simulation ------------------------------------------------------------------------------------------------
    "SIMULATE_PARAMETER": Code(
        "a simulated tube or batch was asked for that cannot exist", "Correct the settings named in the message."
    ),
    "SIMULATE_OUT_EXISTS": Code(
        "the folder for a simulated batch exists and is not empty",
        "Choose another folder, or empty it first: nothing is overwritten unless asked for.",
    ),
    # --- batch -----------------------------------------------------------------------------------------------------
    "REPORT_INPUT_MISSING": Code(
        "the results folder lacks a file that the report is made from",
        "Give the folder that `tregflow gate` wrote, or run `tregflow gate` again: finished tubes are not repeated.",
    ),
    "REPORT_INPUT_INVALID": Code(
        "a file in the results folder is not what tregflow wrote: unreadable, another layout, or from another run",
        "Do not edit files in the results folder; run `tregflow gate` again into a new folder.",
    ),
    "TEMPLATE_NOT_NAMED": Code(
        "no template is named and none is pinned by a study.toml",
        "Name one with --template ID@VERSION, or pin it in a study.toml in the batch folder or above it.",
    ),
    "TEMPLATE_NOT_PINNED": Code(
        "the run used another template than the study pins", "Use these numbers for exploration only."
    ),
    "TEMPLATE_DRAFT": Code("the template is a draft", "Use a released template for numbers that leave the laboratory."),
    "TEMPLATE_RETIRED": Code("the template is retired", "Use the version that replaced it."),
    "TEMPLATE_FLAGGED": Code(
        "the template is flagged as faulty, with the reason", "Do not use the numbers before the reason is understood."
    ),
    "BATCH_UNNAMED": Code(
        "tubes without a batch_id share cuts as if they were one batch",
        "Fill the manifest's batch_id, if they were not stained and acquired together.",
    ),
    "MODE_CHANGES_RESULT": Code(
        "a subject's change from baseline depends on whose cuts are used",
        "Compare the subject's cuts in the report: the instrument drifted, or the drug moved the reference.",
    ),
    "PLACEMENT_ALONE": Code(
        "a gate that the template shares over a batch was placed on this tube alone",
        "Pass the tube's record (tregflow.read_record) to gate it with the cuts of its batch.",
    ),
    "RECORD_DIFFERENT": Code(
        "a tube's record is of another file or template, or holds no gates",
        "Pass the record that belongs to this file.",
    ),
    "TUBE_NO_EVENTS": Code("the tube holds no events", "Export the tube again; look at the acquisition."),
    "MANIFEST_MISSING": Code(
        "there is no manifest and no rule to infer one",
        "Write a manifest.csv, or give a file-name pattern under [tubes] in study.toml.",
    ),
    "BATCH_EMPTY": Code("there are no tubes", "Check the folder's name; tubes end in .fcs or .lmd."),
    "FILE_MISSING": Code(
        "a file named in the manifest is not in the batch folder", "Correct the name or add the file."
    ),
    "FILE_UNREADABLE": Code(
        "a file cannot be opened", "Check permissions, the drive, and whether another program has it."
    ),
    "FILE_UNLISTED": Code(
        "tubes in the batch folder are not in the manifest", "Add them to the manifest, or move them elsewhere."
    ),
    "TUBE_DUPLICATE_KEY": Code(
        "two tubes have the same subject, visit, role and replicate",
        "Correct the manifest: remove a repeated row; tubes of the same specimen get different replicate numbers.",
    ),
    "TUBE_DUPLICATE_BYTES": Code(
        "two tubes are the same file byte for byte",
        "Find out which tube was exported twice and export the other again.",
    ),
    "RUN_DIFFERENT": Code(
        "the results folder holds another run",
        "Choose another folder with --out, or replace its content with --overwrite (the ledger is kept).",
    ),
    "RUN_NOT_RESULTS": Code("the output folder holds something that is not a run", "Choose another folder with --out."),
    "RUN_INSIDE_BATCH": Code("results may not be written into the data folder", "Choose another folder with --out."),
    "RUN_LOCKED": Code("another run is writing this results folder", "Wait for it to end, or choose another --out."),
    "RUN_CANNOT_WRITE": Code("the results cannot be written", "Check permissions and free space, then run again."),
    "LEDGER_BROKEN": Code(
        "the ledger's hash chain is broken: a line was edited, removed, reordered or added by hand",
        "Keep the folder as it is, restore the ledger from a backup, and find out who changed it.",
    ),
    # --- verification ----------------------------------------------------------------------------------------------
    "VERIFY_NOT_RESULTS": Code(
        "there is no run that can be verified",
        "Give the folder that `tregflow gate` wrote; one from before verification was kept is gated again.",
    ),
    "VERIFY_RUN_INCOMPLETE": Code(
        "the run did not end", "Run the same `tregflow gate` command again: it goes on where it stopped. Then verify."
    ),
    "VERIFY_LEDGER": Code(
        "the ledger is broken, was cut, or does not tell of the run",
        "Keep the folder as it is, restore the ledger from a backup, and find out who changed it.",
    ),
    "VERIFY_RESULT_CHANGED": Code(
        "a file of the results is not the one that was written",
        "Restore it from a backup, or run `tregflow gate` again into a new folder; find out who changed it.",
    ),
    "VERIFY_RECORD": Code(
        "a tube's record cannot be read, or does not hold what gating the tube again gives",
        "Run `tregflow gate` again into a new folder, compare the two, and find out what changed.",
    ),
    "VERIFY_ROWS": Code(
        "the tubes of the run are not those of its manifest",
        "Restore the manifest that the run used, or gate the batch again with the one that is right.",
    ),
    "VERIFY_TEMPLATE": Code(
        "the template is not the registered one, or not the one that the records name",
        "Restore the registered template, or install the tregflow that has it; a change needs a new version.",
    ),
    "VERIFY_SOFTWARE": Code(
        "the results were made by more than one version of tregflow", "Gate the batch again into a new folder."
    ),
    "VERIFY_FILE_MISSING": Code(
        "an FCS file of the run is not where it was", "Give the folder of the FCS files with --batch."
    ),
    "VERIFY_FILE_CHANGED": Code(
        "an FCS file is not the one that was gated",
        "Restore the file from the cytometer or a backup, and find out what changed it; do not use the tube's number.",
    ),
    "VERIFY_RAW_VALUES": Code(
        "another reader finds other values in an FCS file",
        "Do not use the tube's number; report it with the file, so that it is found which reader is wrong.",
    ),
    "VERIFY_EXPORT": Code(
        "an exported Gating-ML document is missing or does not hold the gates of the record",
        "Run `tregflow gate` again into a new folder, and find out who changed it.",
    ),
    "VERIFY_GATE": Code(
        "a gate of the record is not where the template, or its rule on this tube, puts it",
        "Do not use the tube's number; run `tregflow gate` again into a new folder and compare.",
    ),
    "VERIFY_EVENTS": Code(
        "FlowKit finds other events in a population, or cannot gate the tube",
        "Do not use the tube's number; report it with the tube's record and its exported gates.",
    ),
    "VERIFY_TABLE": Code(
        "a table of results is not the one that its records give",
        "Restore it from a backup, or run `tregflow gate` again: tables are written anew from the records.",
    ),
    "VERIFY_PERCENTAGE": Code(
        "a percentage is not what its counts give", "Restore the table from a backup; do not use the number."
    ),
    "SELFTEST_INCOMPLETE": Code(
        "the installation, or the folder given, lacks what the self-test needs",
        "Install tregflow again; --batch takes the folder sample_fcs of the source.",
    ),
    "SELFTEST_CONFORMANCE": Code(
        "a known answer that ships with tregflow is not found",
        "Do not use this installation; install tregflow again in a new environment, and report it if it stays.",
    ),
    "SELFTEST_KNOWN_ANSWER": Code(
        "the sample batch does not give the counts that it gave when this version was released",
        "Run it with --batch on the sample_fcs folder of the source; if that differs too, do not use the installation.",
    ),
    "SELFTEST_TRUTH": Code(
        "simulated tubes with known truth are not counted within the limits",
        "Do not use this installation; install tregflow again in a new environment, and report it if it stays.",
    ),
    "INTERNAL": Code(
        "an unexpected error inside tregflow; the results are incomplete",
        "Report it with run.log; the other tubes are not affected.",
    ),
}
