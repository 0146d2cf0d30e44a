"""Rules for Keras, and for the HDF5 that it is kept in."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "hdf5.ambiguous",
        HIGH,
        FLAGGED,
        "An object names one attribute or link twice: readers take different ones.",
    ),
    Rule(
        "hdf5.external",
        HIGH,
        FLAGGED,
        "Reading the file follows a link, or reads data, out of it: into other files of the host.",
    ),
    Rule(
        "hdf5.hidden",
        MEDIUM,
        FLAGGED,
        "Bytes of the file lie behind its own end.",
    ),
    Rule(
        "hdf5.malformed",
        MEDIUM,
        FLAGGED,
        "The file breaks its format, or leads out of itself.",
    ),
    Rule(
        "hdf5.plugin",
        MEDIUM,
        FLAGGED,
        "Data of the file needs a filter that HDF5 does not bring: it loads a library by its"
        " number.",
    ),
    Rule(
        "hdf5.too_large",
        MEDIUM,
        OPEN,
        "The file holds more objects, names or values than the scanner's limits.",
    ),
    Rule(
        "hdf5.unknown",
        MEDIUM,
        OPEN,
        "The file uses a part of HDF5 that the scanner does not read.",
    ),
    Rule(
        "hdf5.user_block",
        MEDIUM,
        FLAGGED,
        "Something else comes before the HDF5: other readers see another file.",
    ),
    Rule(
        "keras.ambiguous",
        HIGH,
        FLAGGED,
        "The configuration gives one name twice: readers take different values.",
    ),
    Rule(
        "keras.custom_object",
        MEDIUM,
        FLAGGED,
        "The configuration needs a class or function that is not Keras' own: code from elsewhere.",
    ),
    Rule(
        "keras.import",
        CRITICAL,
        FLAGGED,
        "Loading the configuration imports or calls what is no layer, loss, metric or the like.",
    ),
    Rule(
        "keras.lambda",
        CRITICAL,
        FLAGGED,
        "The configuration carries code, which loading or calling the model runs.",
    ),
    Rule(
        "keras.malformed",
        MEDIUM,
        FLAGGED,
        "The configuration is no JSON that every reader takes, or not that of a model.",
    ),
    Rule(
        "keras.reads",
        HIGH,
        FLAGGED,
        "Loading the configuration reads a file of the host or an address on the network.",
    ),
    Rule(
        "keras.unknown_class",
        MEDIUM,
        OPEN,
        "The configuration names a class that a later Keras, or a package of its house, may have.",
    ),
)
